"""What TLS and AUTH ask the shell for, and what it answers.

Kind: table.

``StartTls`` is answered by ``Secured``; ``Prove`` by ``Proved`` with the answer to its question.
Both come last in a list of effects. Lookup and Derive, which libsmx/saslserver.py has, are
questions as well: their answers are UserKeys and bytes.
"""

import attrs

from libsmx.saslkeys import UserKeys
from libsmx.saslserver import Challenge, Derive, Failure, Lookup, Success
from libsmx.tlsfacts import TlsFacts
from libsmx.wire import CertAsk, Refusal, Verdict


@attrs.frozen
class StartTls:
    """Shake hands; the reply that allows it was sent before."""


@attrs.frozen
class Secured:
    """The handshake is done; where it fails the connection is over."""

    facts: TlsFacts


@attrs.frozen
class Begin:
    """AUTH begins: is the client's address still welcome? Answer: Begun."""


@attrs.frozen
class Begun:
    """Answer to Begin.

    Attributes:
        nonce: fresh random text.
        blocked: there were too many failures from this address.
    """

    nonce: str
    blocked: bool = False


@attrs.frozen
class Remote:
    """Begin an exchange with the authentication server. Answer: RemoteStep.

    Attributes:
        mechanism: its name.
        initial: initial response of the client, None without one.
        secure: the connection is encrypted.
        verified: the client has a certificate that verified.
    """

    mechanism: str
    initial: bytes | None
    secure: bool
    verified: bool


@attrs.frozen
class RemoteReply:
    """Go on with it: a message of the client. Answer: RemoteStep."""

    data: bytes


@attrs.frozen
class RemoteCancel:
    """Give it up (no answer that counts)."""


RemoteStep = Challenge | Success | Failure | None
"""What the authentication server says; None: it is not there or has trouble."""


@attrs.frozen
class End:
    """AUTH ended. Answer: Ended.

    Attributes:
        success: whether it succeeded.
    """

    success: bool


@attrs.frozen
class Ended:
    """Answer to End.

    Attributes:
        delay_s: how long the client waits for the reply.
    """

    delay_s: int = 0


Question = Begin | Lookup | Derive | Remote | RemoteReply | RemoteCancel | End | CertAsk
ProofAnswer = Begun | UserKeys | bytes | Challenge | Success | Failure | Ended | Verdict | Refusal
"""Or None, where no answer can be had."""


@attrs.frozen
class Prove:
    """Find the answer to a question about who the client is."""

    question: Question


@attrs.frozen
class Proved:
    """Answer to Prove; None: none can be had now."""

    answer: ProofAnswer | None
