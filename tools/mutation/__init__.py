"""A check of the tests: which small changes of the code do they notice?"""
