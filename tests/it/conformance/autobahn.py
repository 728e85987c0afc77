"""Runs cases of the Autobahn test suite against the URL of a WebSocket server that echoes.

Reads lines with the names of cases, separated by spaces, and runs those of each line side by side. For each line it
prints one with what each case has found, as JSON: its verdict, that on the closing handshake, and the close code of the
server.
"""

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient


async def run(url, cases):
    # A server that never answers would hold up a case for ever.
    async with asyncio.timeout(100):
        try:
            results = await run_fuzzingclient(url, cases, concurrency=8)
        except FailureError as failure:
            results = failure.results
    return {
        result.case_id: [result.behavior.value, result.behavior_close.value, result.remote_close_code]
        for result in results
    }


for line in sys.stdin:
    print(json.dumps(asyncio.run(run(sys.argv[1], line.split()))), flush=True)
# Threads of the client may still run.
os._exit(0)
