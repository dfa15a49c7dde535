"""The whole of Scanloop on one machine: PostgreSQL, Airflow, the signer, a simulated device, and the demonstration."""
