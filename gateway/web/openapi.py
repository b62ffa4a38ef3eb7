"""The API description, OpenAPI 3.1, of the paths that the routes are made of.

It tells the same on every gateway: nothing of how one is configured or deployed.
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, Final

import msgspec

from gateway.core import fal
from gateway.core.credentials import SESSION_COOKIE
from gateway.core.errors import GatewayError
from gateway.web.operation import JSON, TEXT, Answer, Operation, Parameter, Path
from gateway.web.shapes import Problem

_REF: Final = "#/components/schemas/{name}"
_VERSION: Final = "1"
_HEADERS_TOO_LARGE: Final = "headers_too_large"
_SECURITY: Final = {
    "credential": {
        "type": "http",
        "scheme": "bearer",
        "description": "A gateway key, a token minted with one, or a JWT of an issuer that the "
        "gateway knows; fal's clients write `Key` in place of `Bearer`",
    },
    "gatewayHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Gateway-Authorization",
        "description": "The same, where `Authorization` is taken; goes before all others",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": "From `POST /v1/session`; unsafe methods need the gateway's own Origin",
    },
    "streamPass": {
        "type": "apiKey",
        "in": "query",
        "name": "pass",
        "description": "From `POST /v1/stream-passes`; read-only",
    },
    "admin": {
        "type": "http",
        "scheme": "bearer",
        "description": "The admin key, or a key with the scope admin, which is for its own team",
    },
}
_HEADERS: Final = {
    "x-request-id": "Names this request; its log line has it too",
    "x-fal-error-type": "`error_type` of the body",
    fal.REQUEST_ID: "The job's id, where there is one",
    "retry-after": "Seconds after which to come again",
    "ratelimit-policy": "The limits that hold, as the IETF's draft writes them",
    "ratelimit": "What is left of them",
    "www-authenticate": "What credential is missing",
    "allow": "The methods that it takes",
}
_ALWAYS: Final = ("x-request-id",)
_OF_PROBLEMS: Final = ("x-request-id", "x-fal-error-type")
_OF_STATUS: Final = {
    401: ("www-authenticate",),
    402: ("retry-after",),
    405: ("allow",),
    429: ("retry-after", "ratelimit-policy", "ratelimit"),
    503: ("retry-after",),
}


def document(paths: Iterable[Path]) -> bytes:
    """The description as JSON."""
    paths = list(paths)
    types = _Types(paths)
    shared = _Shared()
    operations = {path.url: _path(path, types, shared) for path in paths}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "fal-gateway", "version": _VERSION},
            "paths": operations,
            "components": {
                "schemas": types.components,
                "responses": shared.components,
                "securitySchemes": _SECURITY,
                "headers": {
                    name: {"description": about, "schema": {"type": "string"}}
                    for name, about in _HEADERS.items()
                },
            },
        }
    )


class _Types:
    """Schemas of the types that bodies have. What has a name is a component, referred to."""

    def __init__(self, paths: Iterable[Path]) -> None:
        operations = [each for path in paths for each in path.operations.values()]
        types = [Problem, *(each.body for each in operations if each.body is not None)]
        for operation in operations:
            types += [each.body for each in operation.answers.values() if each.body is not None]
        unique = list({repr(each): each for each in types}.values())
        found, self.components = msgspec.json.schema_components(unique, ref_template=_REF)
        self._found = dict(zip(map(repr, unique), found, strict=True))

    def __getitem__(self, body: Any) -> Mapping[str, Any]:
        return self._found[repr(body)]


class _Shared:
    """Answers that many operations have, each told once and referred to."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def ref(self, status: str, answer: dict[str, Any]) -> dict[str, str]:
        names = (f"{status}-{number}" for number in count(1))
        name = next(name for name in names if self.components.get(name, answer) == answer)
        self.components[name] = answer
        return {"$ref": f"#/components/responses/{name}"}


def _path(path: Path, types: _Types, shared: _Shared) -> dict[str, Any]:
    return {
        method.lower(): _operation(path.url, method, each, types, shared)
        for method, each in path.operations.items()
    }


def _operation(
    url: str, method: str, operation: Operation, types: _Types, shared: _Shared
) -> dict[str, Any]:
    words = [word for word in url.replace("{", "").replace("}", "").split("/") if word]
    told: dict[str, Any] = {
        "operationId": "-".join([method.lower(), *words]).replace(".", "-"),
        "summary": operation.about,
        "security": [{scheme: []} for scheme in operation.security],
        "parameters": [_parameter(each) for each in operation.parameters],
        "responses": {
            status: shared.ref(status, answer)
            for status, answer in _responses(operation, types).items()
        },
    }
    if operation.body is not None:
        told["requestBody"] = {
            "required": operation.body_needed,
            "content": {operation.media: {"schema": types[operation.body]}},
        }
    return told


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.about,
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }


def _responses(operation: Operation, types: _Types) -> dict[str, Any]:
    answers = {str(code): _answer(each, types) for code, each in operation.answers.items()}
    problems = {str(code): _problem(code, each) for code, each in _codes(operation).items()}
    for code in answers.keys() & problems.keys():
        problems[code] = _either(answers[code], problems[code])
    passed = {"4XX": _passed_on()} if operation.passes_on else {}
    if operation.passes_on:
        for code in [code for code in problems if code.startswith("4") and code != "401"]:
            problems[code] = _either(problems[code], _passed_on())
    return dict(sorted((passed | answers | problems).items()))


def _codes(operation: Operation) -> dict[int, dict[str, str]]:
    """Titles of all that may go wrong, by code and by status."""
    found = {
        500: {GatewayError.code: GatewayError.title},
        431: {_HEADERS_TOO_LARGE: "Request header fields too large"},
    }
    for error in operation.refuses:
        found.setdefault(error.status, {})[error.code] = error.title
    return found


def _problem(status: int, codes: Mapping[str, str]) -> dict[str, Any]:
    schema = {
        "allOf": [
            {"$ref": _REF.format(name="Problem")},
            {"properties": {"status": {"const": status}, "error_type": {"enum": sorted(codes)}}},
        ]
    }
    return {
        "description": "; ".join(f"{title} (`{code}`)" for code, title in sorted(codes.items())),
        "headers": _refs((*_OF_PROBLEMS, *_OF_STATUS.get(status, ()))),
        "content": {JSON: {"schema": schema}},
    }


def _answer(answer: Answer, types: _Types) -> dict[str, Any]:
    headers: dict[str, Any] = {
        name: {"description": about, "schema": {"type": "string"}}
        for name, about in answer.headers.items()
    }
    told: dict[str, Any] = {"description": answer.about, "headers": headers | _refs(_ALWAYS)}
    schema = answer.schema if answer.body is None else types[answer.body]
    if schema is not None:
        told["content"] = {answer.media: {"schema": dict(schema)}}
        told["content"] |= {media: {"schema": dict(TEXT)} for media in answer.other_media}
    return told


def _passed_on() -> dict[str, Any]:
    refusal = {"type": ["object", "array", "string", "number", "boolean", "null"]}
    return {
        "description": "fal's own refusal, passed on",
        "headers": _refs(_ALWAYS),
        "content": {JSON: {"schema": refusal}, "*/*": {"schema": refusal}},
    }


def _either(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """An answer that has one form, or the other."""
    content = dict(one["content"])
    for media, body in other["content"].items():
        schemas = [content[media]["schema"], body["schema"]] if media in content else []
        content[media] = {"schema": {"anyOf": schemas}} if schemas else body
    return {
        "description": f"{one['description']}; {other['description']}",
        "headers": one["headers"] | other["headers"],
        "content": content,
    }


def _refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
