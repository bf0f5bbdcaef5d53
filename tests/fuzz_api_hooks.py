"""What tests/fuzz_api.sh asks for stays within bounds: few tasks, and not the token that it is asked with."""

import itertools

import schemathesis
import urllib3.util.connection

# Fields that say how many tasks there are to be; the limit of the API is a million.
COUNTS = {"replicas", "total_completions", "max_concurrent", "min", "max"}
FEW, LIMIT = 3, 1_000_000

connect = urllib3.util.connection.create_connection
numbers = itertools.count(1)


def connect_from_elsewhere(address, *args, **kwargs):
    """Each connection comes from another address of the loopback network: one that shows wrong tokens has to wait."""
    number = next(numbers)
    kwargs["source_address"] = (f"127.{1 + number // 62500 % 250}.{1 + number // 250 % 250}.{1 + number % 250}", 0)
    return connect(address, *args, **kwargs)


urllib3.util.connection.create_connection = connect_from_elsewhere


def bounded(value):
    """The same with no more than a few tasks. What the API has to refuse stays as it is."""
    if isinstance(value, dict):
        return {key: few(key, inner) for key, inner in value.items()}
    return [bounded(inner) for inner in value] if isinstance(value, list) else value


def few(key, value):
    is_count = key in COUNTS and isinstance(value, int) and not isinstance(value, bool)
    return FEW if is_count and FEW < value <= LIMIT else bounded(value)


@schemathesis.hook
def before_call(context, case, kwargs):
    if isinstance(case.body, (dict, list)):
        case.body = bounded(case.body)
    parameters = case.path_parameters or {}
    if context.operation.definition.raw.get("operationId") == "remove_token" and parameters.get("token") == "fuzz":
        case.path_parameters = {**parameters, "token": "nobody"}
