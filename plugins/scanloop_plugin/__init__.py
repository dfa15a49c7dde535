"""What Scanloop adds to Airflow: the operator that runs a job, the approval of a promotion, and the Scanloop page."""
