"""The Helm chart: what it renders is valid, refers to what there is, and gives flags that the server has."""
import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from harness import ROOT, Process, Skipped, eventually, folder, free_ports, package, program, request

CHART = ROOT / "deploy" / "helm" / "tidelake"
KUBERNETES = "1.33"
NAMESPACE = "metrics"
TOKEN = "0123456789abcdef0123456789abcdef"
BASE = {"store": {"url": "s3://bucket/prefix", "credentialsSecret": "keys"}, "auth": {"adminTokenSecret": "admin"}}
FULL = {
    **BASE,
    "store": {**BASE["store"], "endpoint": "http://s3:9000", "allowHttp": True, "region": "eu-central-1"},
    "settings": {"memory_bytes": 10737418240, "store_dollars_per_million_reads": 0.4, "otlp_delta": "keep", "auto_create_databases": False},
    "ingress": {"enabled": True, "className": "nginx", "readHost": "read.example.org", "writeHost": "write.example.org", "tlsSecret": "web"},
    "serviceMonitor": {"enabled": True, "tokenSecret": "scrape", "labels": {"release": "prometheus"}},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
}


class Refused(Exception):
    """The chart does not render."""


def renderer():
    """A function from values to the texts of all files: of helm, or of its library for Python."""
    try:
        helm = program("helm")
    except Skipped:
        try:
            from helm_python import Chart, HelmError
        except ImportError:
            raise Skipped("neither helm nor the Python package helm-python-sdk found") from None

        def render(values):
            try:
                with Chart.load(CHART) as chart:
                    chart.validate_schema(values)
                    return chart.render(values=values, name="demo", namespace=NAMESPACE)
            except HelmError as error:
                raise Refused(str(error)) from None

        return "library", render

    def render(values):
        command = [helm, "template", "demo", CHART, "--namespace", NAMESPACE, "--values", "-"]
        done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return {"all.yaml": done.stdout}

    return "helm", render


def run(options):
    how, render = renderer()
    package("yaml")
    known = flags(options)
    counts = []
    for mode in ("cluster", "single"):
        for values in (BASE, FULL):
            counts.append(check({**values, "mode": mode}, render, known))
    counts.append(check({**FULL, "mode": "single", "tls": {"secret": "certificate"}}, render, known))
    plain = check({"store": {"url": "s3://b"}, "auth": {"enabled": False}}, render, known)
    refusals(render)
    others(known)
    with folder() as place:
        started = starts(options, place, render)
    return f"by {how}: {counts + [plain]} objects valid and consistent, {started}"


def flags(options):
    """Flags and variables that the server knows."""
    text = subprocess.run([options.bin, "serve", "--help"], capture_output=True, text=True, timeout=60).stdout
    return set(re.findall(r"--[a-z0-9-]+", text)), set(re.findall(r"TIDELAKE_[A-Z0-9_]+", text))


def objects(render, values):
    import yaml

    texts = [text for name, text in render(values).items() if not name.endswith(".txt")]
    found = [document for text in texts for document in yaml.safe_load_all(text) if document]
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(names) == len(set(names)), names
    return found


def of_kind(found, *kinds):
    return [document for document in found if document["kind"] in kinds]


def selected(selector, pods):
    return [pod for pod in pods if all(pod["metadata"]["labels"].get(key) == value for key, value in selector.items())]


def check(values, render, known):
    """Checks everything that is rendered; how many objects there are."""
    found = objects(render, values)
    validate(found)
    assert not of_kind(found, "Secret", "ConfigMap"), "secrets are referred to, never rendered"
    for hook in of_kind(found, "Pod"):
        command, *words = hook["spec"]["containers"][0]["args"]
        assert command == "doctor" and {word.partition("=")[0] for word in words} <= known[0], words
    workloads = of_kind(found, "StatefulSet", "Deployment")
    pods = [workload["spec"]["template"] for workload in workloads]
    services = of_kind(found, "Service")
    by_name = {service["metadata"]["name"]: service for service in services}
    single = values.get("mode") == "single"
    assert len(pods) == (1 if single else 3), workloads
    for workload in workloads:
        check_pod(workload, by_name, values, known)
    for service in services:
        of_service = selected(service["spec"]["selector"], pods)
        assert len(of_service) == 1, service
        ports = {port["name"] for port in of_service[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service
    roles = {name: role_of(selected(by_name[f"demo-tidelake-{name}"]["spec"]["selector"], pods)[0]) for name in ("write", "read")}
    assert roles == ({"write": None, "read": None} if single else {"write": "ingest", "read": "query"}), roles
    budgets = of_kind(found, "PodDisruptionBudget")
    for pod in pods:
        of_pod = [budget for budget in budgets if selected(budget["spec"]["selector"]["matchLabels"], [pod])]
        assert len(of_pod) == 1 and of_pod[0]["spec"]["maxUnavailable"] == 1, of_pod
    for ingress in of_kind(found, "Ingress"):
        backends = {rule["host"]: rule["http"]["paths"][0]["backend"]["service"]["name"] for rule in ingress["spec"]["rules"]}
        assert backends == {"read.example.org": "demo-tidelake-read", "write.example.org": "demo-tidelake-write"}, backends
        assert all(arguments(pod)["--allowed-hosts"].count("example.org") == 2 for pod in pods)
    for monitor in of_kind(found, "ServiceMonitor"):
        scraped = [service for service in services if selected(monitor["spec"]["selector"]["matchLabels"], [service])]
        targets = [pod["metadata"]["labels"]["app.kubernetes.io/component"] for service in scraped for pod in selected(service["spec"]["selector"], pods)]
        assert sorted(targets) == (["single"] if single else ["compactor", "ingester", "querier"]), targets
    return len(found)


def check_pod(workload, services, values, known):
    pod = workload["spec"]["template"]
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    given = arguments(pod)
    # With a Deployment's suffixes a name has no more than the 64 characters of a node.
    assert len(workload["metadata"]["name"]) <= 47, workload["metadata"]["name"]
    unknown = set(given) - known[0]
    assert not unknown, f"flags that the server does not know: {unknown}"
    env = {variable["name"]: variable for variable in container["env"]}
    unknown = {name for name in env if name.startswith("TIDELAKE_")} - known[1]
    assert not unknown, f"variables that the server does not know: {unknown}"
    settings = {name: env[f"TIDELAKE_{name.upper()}"]["value"] for name in values.get("settings", {})}
    assert settings in ({}, {"memory_bytes": "10737418240", "store_dollars_per_million_reads": "0.4", "otlp_delta": "keep", "auto_create_databases": "false"}), settings
    # Kubernetes puts a variable only where it is declared before.
    for name in re.findall(r"\$\((\w+)\)", " ".join(container["args"])):
        assert "valueFrom" in env[name], name
    assert given["--node"] == "$(POD_NAME)"
    host, _, port = given["--advertise"].rpartition(":")
    assert port == given["--listen"].rpartition(":")[2] == "7070" and host in given["--allowed-hosts"].split(",")
    if workload["kind"] == "StatefulSet":
        headless = services[workload["spec"]["serviceName"]]
        assert headless["spec"]["clusterIP"] == "None" and headless["spec"]["publishNotReadyAddresses"] is True
        assert selected(headless["spec"]["selector"], [pod]), headless
        assert host == f"$(POD_NAME).{headless['metadata']['name']}.{NAMESPACE}.svc.cluster.local", host
    else:
        assert host == "$(POD_IP)", host
    scheme = "HTTPS" if "tls" in values else "HTTP"
    for probe, path in [("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")]:
        got = container[probe]["httpGet"]
        assert (got["path"], got["port"], got["scheme"]) == (path, "http", scheme), got
    # preStop, shutdown_timeout_ms, and a flush.
    assert spec["terminationGracePeriodSeconds"] >= 120, spec
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert set(volumes) == {mount["name"] for mount in mounts.values()}, (volumes, mounts)
    assert "emptyDir" in volumes[mounts[given["--data-dir"]]["name"]]
    for flag in ("--admin-token-file", "--tls-cert", "--tls-key"):
        if flag in given:
            secret = volumes[mounts[str(Path(given[flag]).parent)]["name"]]["secret"]
            # 0440: the server refuses a token that everybody may read.
            assert secret["defaultMode"] == 0o440, secret
    has_auth = values["auth"].get("enabled", True)
    assert ("--admin-token-file" in given, given["--auth"], given["--insecure-no-auth"]) == (has_auth, *(("true", "false") if has_auth else ("false", "true")))
    if values["store"].get("credentialsSecret"):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert env[name]["valueFrom"]["secretKeyRef"] == {"name": "keys", "key": name}, env[name]
    # What is on local disk is a cache, with room for it.
    size = volumes["data"]["emptyDir"]["sizeLimit"]
    assert int(size.removesuffix("Gi")) << 30 > int(given["--cache-bytes"]), size


def arguments(pod):
    """Flags and values of a server."""
    command, *words = pod["spec"]["containers"][0]["args"]
    assert command == "serve" and all(word.startswith("--") for word in words), words
    pairs = [word.partition("=") for word in words]
    given = {flag: value for flag, _, value in pairs}
    assert len(given) == len(words), words
    return given


def role_of(pod):
    return arguments(pod).get("--roles")


def validate(found):
    try:
        import kubernetes_validate
    except ImportError:
        raise Skipped("Python package kubernetes-validate not found") from None
    for document in found:
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def refusals(render):
    for values, reason in [
        ({}, "store.url is required"),
        ({**BASE, "auth": {}}, "auth.adminTokenSecret is required"),
        ({**BASE, "mode": "many"}, "mode"),
        ({**BASE, "store": {"url": "/data"}}, "url"),
        ({**BASE, "store": {**BASE["store"], "secretKey": "x"}}, "secretKey"),
        ({**BASE, "settings": {"node": "x"}}, "node"),
        ({**BASE, "ingester": {"replicas": 0}}, "replicas"),
        ({**BASE, "tls": {"secret": "certificate"}}, "end TLS at the ingress"),
        ({**BASE, "mode": "single", "single": {"replicas": 2}, "tls": {"secret": "certificate"}}, "end TLS at the ingress"),
        ({**BASE, "ingress": {"enabled": True}}, "ingress.readHost is required"),
    ]:
        try:
            render(values)
        except Refused as error:
            assert reason in str(error), f"{values}: {error}"
        else:
            raise AssertionError(f"rendered: {values}")


def starts(options, place, render):
    """The flags of the pods, with their paths and ports moved, start processes that want the token and are one cluster."""
    place = Path(place)
    secret = place / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o440)
    workloads = of_kind(objects(render, {**BASE, "mode": "cluster"}), "StatefulSet", "Deployment")
    pods = {workload["metadata"]["name"]: workload["spec"]["template"] for workload in workloads}
    with ExitStack() as running:
        servers = {}
        for name in ("demo-tidelake-ingester", "demo-tidelake-querier", "demo-tidelake-compactor"):
            port, postgres = free_ports(2)
            moved = {
                "--store": place / "db", "--data-dir": place / name, "--admin-token-file": secret, "--node": f"{name}-0",
                "--listen": f"127.0.0.1:{port}", "--advertise": f"127.0.0.1:{port}", "--allowed-hosts": "127.0.0.1",
            }
            given = {**arguments(pods[name]), **moved}
            if given["--pg-listen"]:
                given["--pg-listen"] = f"127.0.0.1:{postgres}"
            command = [options.bin, "serve", *(f"{flag}={value}" for flag, value in given.items())]
            server = running.enter_context(Process(command, place / f"{name}.log"))
            url = f"http://127.0.0.1:{port}"

            def ready(server=server, url=url):
                server.check_alive()
                return request(f"{url}/ready")[0] == 200

            eventually(f"{name} ready", ready)
            servers[name.rpartition("-")[2]] = server, url
        authorized = {"Authorization": f"Bearer {TOKEN}"}
        (ingester, write), (_, read) = servers["ingester"], servers["querier"]
        statuses = [request(f"{write}/api/v2/write?bucket=default", "m v=1 1790000000000000000", headers)[0] for headers in ({}, authorized)]
        assert statuses == [401, 204], statuses
        query = f"{read}/api/v3/query_sql?db=default&format=json&q=SELECT+v+FROM+m"
        answer = request(query, headers=authorized)
        assert answer[0] == 200 and json.loads(answer[1]) == [{"v": 1}], answer
        command = [options.bin, "doctor", "--format", "json", "--store", place / "db"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert done.returncode == 0 and len(checks["catalog"]["figures"]["nodes"]) == 3, done.stdout
        assert ingester.stop() == 0
        answer = request(query, headers=authorized)
        assert answer[0] == 200 and json.loads(answer[1]) == [{"v": 1}], f"after a stop of the ingester: {answer}"
    return "its pods' flags make a cluster"


def others(known):
    """Compose and systemd name flags and variables that there are."""
    for name in ("compose.cluster.yaml", "tidelake@.service", "README.md"):
        text = (ROOT / "deploy" / name).read_text()
        if name == "README.md":
            text = text.partition("## Clusters")[2]
            words = set(re.findall(r"`(--[a-z-]+)`", text))
        else:
            words = set(re.findall(r"(?<![\w-])--[a-z-]+", "\n".join(line for line in text.splitlines() if not line.startswith("#"))))
        variables = set(re.findall(r"TIDELAKE_[A-Z0-9_]+", text))
        assert words and words <= known[0] and variables <= known[1], f"{name}: {words - known[0]} {variables - known[1]}"
