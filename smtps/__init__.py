"""The SMTP server: takes mail from strangers, writes its content, hands its envelope over."""
