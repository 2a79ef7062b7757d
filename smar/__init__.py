"""smar: the address resolver; answers questions about addresses, keeps no mail.

Kind: table.

Decisions are cores (mailertable, lookup, mx, route, verdict, cache); flights and dnsio move
questions to the name servers, daemon answers smtps and qmgr.
Source: SPEC row X009.
"""
