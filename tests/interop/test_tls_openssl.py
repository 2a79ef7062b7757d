"""TLS of the server, seen by openssl and by Python's ssl module."""

import smtplib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need
from tests.libsmx.tlspair import DARTH
from tests.secure import STRANGERS, Site, logged, openssl, s_client
from tests.sink import Sink
from tests.system import wait_for

RCPT = "b@far.example"


def trusting(site):
    context = ssl.create_default_context(cafile=site.ca.file)
    context.check_hostname = False
    return context


def try_relay(system, site, cert=None, *, port=None):
    """Offer a recipient far away over TLS; return the code."""
    context = trusting(site)
    if cert is not None:
        context.load_cert_chain(*cert)
    if port is None:
        client = smtplib.SMTP("127.0.0.1", system.port, timeout=60)
        client.starttls(context=context)
    else:
        client = smtplib.SMTP_SSL("127.0.0.1", port, timeout=60, context=context)
    with client:
        client.ehlo()
        client.mail("")
        return client.rcpt(RCPT)[0]


@pytest.mark.slow
@pytest.mark.covers("X004", "X409", "X411", "X412", "X413", "X418", "X469")
def test_handshakes_and_relaying_by_certificate(smx):
    need("openssl", "openssl")
    with Site() as site, Sink() as sink:
        # One CA in the file, another one in the directory, a third one nowhere.
        directory = site.dir / "CAs"
        directory.mkdir()
        with Site("Second CA") as second, Site("Third CA") as third:
            (directory / "second.pem").write_bytes(second.ca.file.read_bytes())
            openssl("rehash", directory)
            others = second.issue("other.test"), third.issue("stranger.test")
            mine = site.issue("client.test")
            more = f'CAcert_directory = "{directory}"; flags = {{ allow_relaying_if_verified }};'
            system = smx(
                nexthop=sink.address, options={"smtps": STRANGERS + site.tls(more)}
            ).start()
            # openssl: both ways in, the certificate, no way back to old protocols.
            ca = ("-CAfile", site.ca.file)
            for port, implicit in ((system.port, False), (site.implicit_port, True)):
                said = s_client(
                    port, *ca, implicit=implicit, text="MAIL FROM:<>\r\nEHLO c\r\nQUIT\r\n"
                )
                assert "Verify return code: 0 (ok)" in said
                assert "CN = mx.smx.test" in said or "CN=mx.smx.test" in said
                assert "503 5.5.1 Say EHLO first" in said
                assert said.count("STARTTLS") == (0 if implicit else 1)  # its own EHLO
            assert "TLSv1.2" in s_client(system.port, "-tls1_2")
            old = s_client(system.port, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", check=False)
            assert "Cipher is (NONE)" in old
            # A ticket brings a client back without a full handshake.
            kept = site.dir / "session"
            for version in ("-tls1_2", "-tls1_3"):
                assert "New, TLSv1" in s_client(system.port, version, "-sess_out", kept)
                assert "Reused, TLSv1" in s_client(system.port, version, "-sess_in", kept)
            # Renegotiation of TLS 1.2 is refused.
            said = s_client(system.port, "-tls1_2", text="R\r\n", stay=False, check=False)
            assert "no renegotiation" in said.lower()
            # Who may relay.
            assert try_relay(system, site) == 550
            assert try_relay(system, site, mine) == 250
            assert try_relay(system, site, mine, port=site.implicit_port) == 250
            assert try_relay(system, site, others[0]) == 250
            assert try_relay(system, site, others[1]) == 550
            assert "verify=OK" in logged(system, "tls_started", "/CN=client.test")[0]
            assert "verify=FAIL" in logged(system, "tls_started", "/CN=stranger.test")[0]
            # A message tells how it came.
            with smtplib.SMTP("127.0.0.1", system.port, timeout=60) as client:
                context = trusting(site)
                context.load_cert_chain(*mine)
                client.starttls(context=context)
                client.sendmail("a@client.example", [RCPT], "Subject: x\r\n\r\nhi\r\n")
            (message,) = sink.wait(1)
            assert b"with ESMTPS\r\n\t(version=TLSv1.3 cipher=" in message.data
            assert b"verify=OK)" in message.data


@pytest.mark.slow
@pytest.mark.covers("X410", "X427")
def test_keys_that_do_not_fit_stop_the_start_and_default_names_are_found(smx):
    with Site() as site:
        other = site.issue("other.test")
        system = smx(mt="", options={"smtps": "log_level = 9;"})
        # Beside smx.conf, under the names that nobody has to write.
        for name, path in (("smtps_cert.pem", site.cert[0]), ("smtps_key.pem", other[1])):
            (system.dir / name).write_bytes(Path(path).read_bytes())
            (system.dir / name).chmod(0o640)
            site.own(system.dir / name)
        system.start(ready=False)
        wait_for(
            "the refusal", lambda: any("does not belong to" in one for one in system.mcp_lines())
        )
        system.stop()
        (system.dir / "smtps_key.pem").write_bytes(Path(site.cert[1]).read_bytes())
        with smtplib.SMTP(*address(system.start()), timeout=60) as client:
            client.starttls(context=trusting(site))
            client.ehlo()
            assert "starttls" not in client.esmtp_features


def address(system):
    return "127.0.0.1", system.port


@pytest.mark.slow
@pytest.mark.covers("X414", "X415", "X416", "X419", "X420", "X421")
def test_the_access_map_decides_by_issuer_and_subject(smx):
    with Site() as site:
        darth = type(site.ca)(site.dir, "Darth", DARTH)
        site.ca = darth
        site.cert = site.issue("mx.smx.test")
        issuer = (
            "/C=US/ST=California/O=endmail.org/OU=private/CN=Darth+20Mail+20+28Cert+29"
            "/emailAddress=darth+2Bcert@endmail.org"
        )
        good, bad = site.issue("deathstar.test"), site.issue("alderaan.test")
        more = "flags = { check_access_map_for_relaying };"
        system = smx(
            nexthop="127.0.0.1:9",
            options={
                "smtps": STRANGERS + "flags = { access, 8bitmime };" + site.tls(more),
                "smar": f'access_map {{ file = "{site.dir}/access.db"; }}',
            },
        )

        def write(text):
            subprocess.run(
                [system.programs / "createmap", f"{site.dir}/access.db"],
                input=text, text=True, check=True,
            )  # fmt: skip
            (site.dir / "access.db").chmod(0o644)

        write(f"certissuer:{issuer} cont\nCertSubject:/CN=deathstar.test relay\n")
        system.start()
        assert try_relay(system, site, good) == 250
        assert try_relay(system, site, bad) == 550
        assert try_relay(system, site) == 550
        line = logged(system, "cert_relay", "alderaan")[0]
        assert f'issuer="{issuer}"' in line
        write(f"certissuer:{issuer} relay\n")
        wait_for("the new map", lambda: try_relay(system, site, bad) == 250)


def test_nothing_may_follow_starttls_in_clear_text(smx):
    with Site() as site:
        system = smx(mt="", options={"smtps": site.tls()}).start()
        with socket.create_connection(address(system), 60) as sock:
            file = sock.makefile("rb")
            assert file.readline().startswith(b"220 ")
            sock.sendall(b"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<evil@c.test>\r\n")
            rest = file.read()
            assert b"\r\n554 5.5.1 Nothing may follow" in rest
            assert b"220 2.0.0" not in rest
        logged(system, "tls_injection")
        # In a packet of its own it is no handshake.
        with socket.create_connection(address(system), 60) as sock:
            file = sock.makefile("rb")
            file.readline()
            sock.sendall(b"EHLO c\r\nSTARTTLS\r\n")
            while not file.readline().startswith(b"220 "):
                pass
            sock.sendall(b"MAIL FROM:<evil@c.test>\r\n")
            assert not [line for line in file if line.startswith(b"250")]
        logged(system, "tls_failed")
        assert system.greets()


@pytest.mark.slow
@pytest.mark.covers("X409")
def test_names_have_certificates_of_their_own_and_new_ones_need_no_restart(smx):
    need("openssl", "openssl")
    with Site() as site:
        other = site.issue("other.test")
        files = f'cert_file = "{other[0]}"; key_file = "{other[1]}";'
        sni = f"sni {{ names = {{ other.test }}; {files} }}"
        options = {"smtps": site.tls(sni, ca=False)}
        system = smx(mt="", options=options, smtps_processes=2).start()

        def subject(name):
            said = s_client(system.port, "-servername", name)
            return next(line for line in said.splitlines() if "subject=" in line).replace(" ", "")

        assert subject("other.test") == "subject=CN=other.test"
        assert subject("mx.smx.test") == subject("unknown.test") == "subject=CN=mx.smx.test"
        pids = {pid for _, pid in system.pids()}
        # A ticket of one process is worth nothing to the other, and does no harm there.
        kept = site.dir / "session"
        s_client(system.port, "-sess_out", kept)
        for _ in range(4):
            assert "mx.smx.test closing connection" in s_client(system.port, "-sess_in", kept)
        # A pair that does not fit yet is not used; the whole one is.
        new = site.issue("new.test")
        for at in (0, 1):
            Path(site.cert[at]).write_bytes(Path(new[at]).read_bytes())
        wait_for("the new certificate", lambda: subject("mx.smx.test") == "subject=CN=new.test")
        assert subject("other.test") == "subject=CN=other.test"
        assert pids <= {pid for _, pid in system.pids()}
