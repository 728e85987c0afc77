"""Calls the server in grpc_server.py at ADDRESS in every way, and prints what it finds as JSON, a line for each.

With the file of an authority as second argument, over TLS.
"""

import json
import queue
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ECHO = "/agimo.test.Echo/"
LIMIT = 20

address, *authority = sys.argv[1:]
options = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", "grpc.test")]
if authority:
    with open(authority[0], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options.append(("grpc.ssl_target_name_override", "grpc.test"))
    channel = grpc.secure_channel(address, credentials, options)
else:
    channel = grpc.insecure_channel(address, options)


def found(value):
    print(json.dumps(value), flush=True)


def unary(name, message):
    response, call = channel.unary_unary(ECHO + name).with_call(message, timeout=LIMIT)
    metadata = [dict(call.initial_metadata()).get("x-initial"), dict(call.trailing_metadata()).get("x-trailing")]
    return [len(response), call.code().name, *metadata]


def status(call):
    try:
        call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


found(unary("Unary", bytes(3 << 20)))
found([message.decode() for message in channel.unary_stream(ECHO + "ServerStream")(b"x", timeout=LIMIT)])
found(channel.stream_unary(ECHO + "ClientStream")(iter([b"a", b"b"]), timeout=LIMIT).decode())

# The next request is sent only when the response to the one before has arrived.
requests = queue.Queue()
responses = channel.stream_stream(ECHO + "Bidirectional")(iter(requests.get, None), timeout=LIMIT)
steps = []
for step in (b"0", b"1", b"2"):
    requests.put(step)
    steps.append(next(responses).decode())
requests.put(None)
found([steps, len(list(responses)), responses.code().name])

found(status(lambda: unary("Fail", b"")))
found(status(lambda: unary("Missing", b""))[0])

health = health_pb2_grpc.HealthStub(channel)
found(health.Check(health_pb2.HealthCheckRequest(service=""), timeout=LIMIT).status)
watched = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=LIMIT)
found(next(watched).status)
watched.cancel()
found(sorted(ProtoReflectionDescriptorDatabase(channel).get_services()))
