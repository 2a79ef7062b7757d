"""The SMTP and LMTP client: delivers on the queue manager's order and reads the CDB only."""
