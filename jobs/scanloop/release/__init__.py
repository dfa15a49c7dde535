"""From champion to devices: export, parity, signing, publication. The signer is a process of its own whose keys no job can read."""
