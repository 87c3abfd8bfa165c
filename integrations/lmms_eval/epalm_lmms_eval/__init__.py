"""A plugin of lmms-eval: trained runs of epalm as its model "epalm"."""
