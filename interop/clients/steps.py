"""Steps of a job, for the programs beside it.

A job is a class. Each of its methods with a doc string is a step: the doc string is its
name, the value it returns its result. steps.run writes a line of JSON for each of them,
in order:

    {"step": "exclusive create", "result": "…"}
    {"step": "append", "error": "PermissionError: …"}

The environment says where to: S3_ENDPOINT, S3_CA, and the AWS_… variables.
"""

import hashlib
import json
import os
import traceback

endpoint = os.environ["S3_ENDPOINT"]
scheme, host = endpoint.split("://")
ca = os.environ.get("S3_CA")
key_id = os.environ["AWS_ACCESS_KEY_ID"]
secret = os.environ["AWS_SECRET_ACCESS_KEY"]
region = os.environ["AWS_REGION"]


def noise(size):
    """Bytes that do not compress, the same in each run."""
    content, piece = bytearray(), b""
    while len(content) < size:
        piece = hashlib.sha256(piece).digest()
        content += piece
    return bytes(content[:size])


def digest(content):
    return f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"


def refused(call, *args, **kwargs):
    """Returns the kind of error that a call ends with, as it must."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    raise AssertionError("no error")


def run(job):
    for name, method in type(job).__dict__.items():
        if name.startswith("_") or not method.__doc__:
            continue
        line = {"step": method.__doc__}
        try:
            line["result"] = str(getattr(job, name)())
        except Exception as error:
            traceback.print_exc()
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)
