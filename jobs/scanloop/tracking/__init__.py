"""What a ClearML server is told: experiments, models, datasets and reports, from spools and the catalog. Never on the commit path."""
