#!/bin/sh
# Airflow's chart starts containers with a program (bash, airflow, python); by hand one types Airflow's own words. The program takes this
# process's place, so that signals reach it.
set -eu
if command -v "$1" >/dev/null 2>&1; then
    exec "$@"
fi
exec airflow "$@"
