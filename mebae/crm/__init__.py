"""CRM and SFA: leads out, outcomes back (DESIGN §9). `scenarios/crm.py` says which, by `mebae.crm_language`."""
