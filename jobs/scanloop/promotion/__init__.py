"""Promotion: whether a candidate takes the champion's place, with the evidence, and the switch itself.

policy      when a candidate may become champion
bootstrap   paired resampling of bags
comparison  candidate and champion on the same bags, as numbers
gate        the rules that turn the numbers into a verdict with reasons
evidence    what a decision keeps
compare     the job that decides
receipts    whether what a decision builds on was really completed
promote     the job that switches
records     what the catalog says about decisions and champions
"""
