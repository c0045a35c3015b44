"""Certificates for servers on loopback, made by ``openssl`` when a test needs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""
DAYS = "2"


class Certificates:
    """An authority, and certificates that it has signed for a server and a client."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca = self._authority("ca")
        #: Another authority, which has signed nothing: a client that trusts it alone connects
        #: nowhere.
        self.stranger_ca = self._authority("stranger")
        self.server, self.server_key = self._signed("server")
        self.client, self.client_key = self._signed("client")

    def _authority(self, name: str) -> Path:
        crt = self._folder / f"{name}.crt"
        self._openssl("req", "-x509", *self._request(name), "-extensions", "ca", "-out", str(crt))
        return crt

    def _signed(self, name: str) -> tuple[Path, Path]:
        """Make a certificate that `ca` has signed; returns it and its key."""
        crt, csr = self._folder / f"{name}.crt", self._folder / f"{name}.csr"
        self._openssl("req", *self._request(name), "-out", str(csr))
        signing = ("-CA", str(self.ca), "-CAkey", str(self.ca.with_suffix(".key")))
        extensions = ("-extfile", str(self._folder / f"{name}.cnf"), "-extensions", "leaf")
        self._openssl(
            *("x509", "-req", "-in", str(csr), "-out", str(crt), "-days", DAYS),
            *("-CAcreateserial", *signing, *extensions),
        )
        return crt, crt.with_suffix(".key")

    def _request(self, name: str) -> list[str]:
        """Return what names a subject and asks for a key of its own."""
        config = self._folder / f"{name}.cnf"
        config.write_text(CONFIG.format(name=f"umbel tests {name}"))
        key = str(self._folder / f"{name}.key")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return [*curve, "-keyout", key, "-config", str(config), "-days", DAYS]

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, text=True, check=False, cwd=self._folder
        )
        if done.returncode:
            raise RuntimeError(f"`openssl {' '.join(arguments)}` failed:\n{done.stderr}")
