"""Runs the cases 1 to 7 of the Autobahn test suite against the URL of a WebSocket server that echoes.

Prints what each case has found, as JSON: its verdict, that on the closing handshake, and the close code of the server.
"""

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient


async def run(url):
    cases = [f"{group}.*" for group in range(1, 8)]
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


json.dump(asyncio.run(run(sys.argv[1])), sys.stdout)
sys.stdout.flush()
# Threads of the client may still run.
os._exit(0)
