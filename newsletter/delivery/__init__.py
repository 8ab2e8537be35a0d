"""The ledger and the engine that sends by it: nobody twice, nobody skipped, and provably so.

A send has one delivery row a recipient and works in leased batches; every request is an attempt
that was committed before it left. This package knows providers by their interface only.
"""
