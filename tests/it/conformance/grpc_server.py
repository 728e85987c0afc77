"""A gRPC server with health checks and reflection. Messages are bytes, so that no generated code is needed."""

import os
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

ECHO = "agimo.test.Echo"


def unary(request, context):
    context.send_initial_metadata((("x-initial", "i"),))
    context.set_trailing_metadata((("x-trailing", "t"),))
    return request


def bidirectional(requests, context):
    for request in requests:
        yield b"echo:" + request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "told to fail \u00e9%")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request] * 5)),
    "ClientStream": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
    "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, handlers),))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
reflection.enable_server_reflection((ECHO, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
server.add_insecure_port("127.0.0.1:" + os.environ["PORT"])
server.start()
server.wait_for_termination()
