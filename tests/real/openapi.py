"""schemathesis makes requests of /api/openapi.json: no answer is a 5xx, and all are as described."""
import json
import subprocess

from harness import Tidelake, folder, program, request

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# A tail does not end, protobuf cannot be made of a description, and limits would refuse all other requests.
ELSEWHERE = ["GET /api/v1/tail", "POST /api/v1/read", "POST /api/v1/write", "PUT /api/v3/configure/limits"]
# (phases, requests of an operation, seconds)
RUNS = [("examples,coverage", 1, 75), ("fuzzing", 10, 30)]


def run(options):
    schemathesis = program("schemathesis")
    with folder() as place, Tidelake(options.bin, place) as server:
        description = f"{server.url}/api/openapi.json"
        operations = described(description)
        server.lines("cpu,host=a usage=0.5 1\nup,job=a value=1 1")
        figures = []
        for phases, examples, seconds in RUNS:
            excluded = [word for name in ELSEWHERE for word in ("--exclude-name", name)]
            figures.append(check(schemathesis, place, description, phases, examples, seconds, excluded))
        limits = ["--include-name", "PUT /api/v3/configure/limits"]
        figures.append(check(schemathesis, place, description, "examples,coverage,fuzzing", 20, 10, limits))
        server.check_alive()
        status, _ = request(f"{server.url}/ready")
        assert status == 200, status
    return f"{operations} operations are described, requests: {', '.join(figures)}"


def described(description):
    status, text = request(description)
    assert status == 200, status
    paths = json.loads(text)["paths"]
    methods = {"get", "put", "post", "delete", "patch"}
    return sum(len(methods & item.keys()) for item in paths.values())


def check(schemathesis, place, description, phases, examples, seconds, which):
    """How many requests were made."""
    command = [
        schemathesis, "run", description, "--checks", CHECKS, "--phases", phases, "--max-examples", str(examples), "--max-time", str(seconds),
        "--workers", "2", "--request-timeout", "30", "--no-color", "--warnings", "off", "--continue-on-failure", *which,
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=seconds + 60)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    made = next(line for line in done.stdout.splitlines() if "generated" in line)
    return made.strip().split(" ")[0]
