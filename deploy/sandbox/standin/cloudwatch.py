"""CloudWatch's GetMetricData in the protocol that newer AWS SDKs speak: Smithy RPC v2 with CBOR, which moto lacks.

The gate sends such requests here instead of to moto; the numbers are moto's all the same.
"""

from datetime import timezone

from botocore.parsers import RpcV2CBORParser
from botocore.serialize import RpcV2CBORSerializer
from botocore.session import get_session
from moto.cloudwatch.models import cloudwatch_backends
from werkzeug.wrappers import Request, Response

from . import REGION

PREFIX = "/service/GraniteServiceVersion20100801/operation/"
GET_METRIC_DATA = get_session().get_service_model("cloudwatch").operation_model("GetMetricData")


def application(account):
    """The WSGI application for a caller of this account."""
    def answer(environ, start_response):
        if environ["PATH_INFO"] != PREFIX + "GetMetricData":
            return error("UnknownOperationException", environ["PATH_INFO"], 404)(environ, start_response)
        asked = decode(Request(environ).get_data())
        times = [asked[name].astimezone(timezone.utc).replace(tzinfo=None) for name in ("StartTime", "EndTime")]
        results = cloudwatch_backends[account][REGION].get_metric_data(asked["MetricDataQueries"], *times)
        told = [{"Id": result["id"], "Label": result["label"], "Timestamps": result["timestamps"],
                 "Values": [float(value) for value in result["values"]], "StatusCode": result["status_code"]}
                for result in results]
        return reply(encode({"MetricDataResults": told}))(environ, start_response)

    return answer


def error(code, message, status):
    """The body is an object of two texts, which CBOR and this need no shape for."""
    texts = [text for pair in (("__type", code), ("message", message)) for text in pair]
    body = b"".join(b"\x79" + len(raw).to_bytes(2, "big") + raw for raw in map(str.encode, texts))
    return reply(b"\xa2" + body, status)


def decode(body):
    parser = RpcV2CBORParser()
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(body))


def encode(value):
    body = bytearray()
    RpcV2CBORSerializer()._serialize_data_item(body, value, GET_METRIC_DATA.output_shape)
    return bytes(body)


def reply(body, status=200):
    return Response(body, status, {"smithy-protocol": "rpc-v2-cbor"}, content_type="application/cbor")
