"""The private Hub of scripts/drill-alerts, with all that watches it and all that is outside of it."""

import datetime
import http.client
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MONITORING = ROOT / "monitoring"
# How long the drill waits for what must happen.
PATIENCE = 90
# Times of the rules, and what they are here: waits, windows, and ages in seconds.
SHORT = [
    (r"for: \w+", "for: 2s"),
    (r"offset 1m", "offset 4s"),
    *((rf"\[{window}\]", f"[{short}]") for window, short in (
        ("5m", "10s"), ("15m", "20s"), ("30m", "12s"), ("1h", "15s"), ("2h", "20s"), ("6h", "30s"), ("1d", "40s"), ("2d", "40s"), ("3d", "60s"))),
    (r"([<>]) (26|6) \* 3600", r"\1 15"),
    (r"> 3600$", "> 30"),
]
KEY = "drill-alerts-" + "0" * 32


class Failure(Exception):
    """What went wrong."""


def say(text):
    print(f"drill-alerts: {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(what, condition, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failure(f"never came: {what}")
        time.sleep(0.1)
    return found


UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


def fetch(url, body=None, key=None, method=None):
    """Status and body of an answer; status 0 when there is none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10, context=UNVERIFIED) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


# What the two sources tell, in languages in which VADER does and does not score.
TEXTS = {
    "steady": ("Energy prices fall in town, and bakers are relieved",
               "Falling energy prices are a great relief, said the bakers, who had feared a terrible winter."),
    "fickle": ("Die Energiepreise in der Stadt fallen, und die Bäcker sind erleichtert",
               "Die fallenden Energiepreise seien eine große Erleichterung, sagten die Bäcker, die einen schrecklichen Winter gefürchtet hatten."),
}


class Outside(http.server.ThreadingHTTPServer):
    """What is outside of the Hub: feeds, a language model, and the receiver of alerts."""

    def __init__(self):
        self.feeds_down, self.model_down, self.items = set(), False, 0
        # Alerts as they came: (name, labels, status, when it began).
        self.received, self.texts, self.signs_of_life = [], [], 0
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        outside, name = self.server, self.path.strip("/")
        if name in outside.feeds_down:
            return self.answer(503)
        outside.items += 1
        title, text = TEXTS[name]
        return self.answer(200, f"""<rss version="2.0"><channel><title>{name}</title><link>https://{name}.example/</link>
            <item><title>{title} ({outside.items})</title><link>https://{name}.example/{outside.items}</link>
            <description>{text} ({outside.items})</description></item></channel></rss>""")

    def do_POST(self):
        outside, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/watchdog":
            outside.signs_of_life += 1
        elif self.path == "/alerts":
            for alert in json.loads(body)["alerts"]:
                outside.received.append((alert["labels"]["alertname"], alert["labels"], alert["status"], moment(alert["startsAt"])))
        elif self.path == "/slack":
            outside.texts += [f"{note['title']} {note['title_link']}\n{note['text']}" for note in json.loads(body)["attachments"]]
        elif outside.model_down:
            return self.answer(500)
        else:
            tone = {"score": 0.4, "confidence": 0.9, "subjectivity": 0.2, "class": "fact", "phrases": []}
            choice = {"message": {"content": json.dumps(tone)}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 100, "completion_tokens": 20}
            return self.answer(200, json.dumps({"choices": [choice], "usage": usage}))
        return self.answer(200)


def moment(text):
    return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


class Lab:
    """The processes, and where they are."""

    def __init__(self, folder, euhub, postgres):
        self.folder, self.euhub, self.postgres = folder, euhub, postgres
        self.processes, self.outside = {}, Outside()
        names = "postgres redis core edge core-metrics worker-metrics edge-metrics postgres-exporter redis-exporter node-exporter prometheus alertmanager"
        self.ports = {name: free_port() for name in names.split()}
        # PostgreSQL does not run as root.
        self.switch = {}
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            account = known.get("postgres") or known["nobody"]
            self.switch = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(folder, account.pw_uid, account.pw_gid)
        self.database = f"postgres://postgres@127.0.0.1:{self.ports['postgres']}/postgres"
        self.edge = f"https://127.0.0.1:{self.ports['edge']}"
        self.prometheus = f"http://127.0.0.1:{self.ports['prometheus']}"
        self.alertmanager = f"http://127.0.0.1:{self.ports['alertmanager']}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("EUHUB_", "DATABASE_URL", "REDIS_URL"))}
        (folder / "key").write_text(KEY)
        data = Path(os.environ.get("EUHUB_DATA_DIR", ROOT / ".euhub"))
        self.env = clean | {
            "DATABASE_URL": self.database,
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}",
            "DATA_SOURCE_NAME": f"{self.database}?sslmode=disable",
            "EUHUB_ADMIN_KEY_FILE": str(folder / "key"),
            "EUHUB_ALLOW_PRIVATE_SOURCES": "true",
            "EUHUB_CORE_URL": f"http://127.0.0.1:{self.ports['core']}",
            "EUHUB_GRPC_ADDR": f"127.0.0.1:{self.ports['core']}",
            "EUHUB_EDGE_ADDR": f"127.0.0.1:{self.ports['edge']}",
            "EUHUB_DATA_DIR": str(folder / "data"),
            "EUHUB_PG_BIN": str(postgres),
            "EUHUB_MODEL_DIR": str(data.absolute() / "model/all-MiniLM-L6-v2"),
            "EUHUB_SAMPLES_DIR": str(ROOT / "samples"),
            "EUHUB_LLM_PROVIDER": "openai", "EUHUB_LLM_MODEL": "drill", "EUHUB_LLM_URL": f"{self.outside.url}/v1",
            "EUHUB_LLM_REQUESTS_PER_MINUTE": "6000",
            **{f"EUHUB_{kind}RATE_LIMIT_PER_MINUTE": "60000" for kind in ("", "SEARCH_", "WRITE_")},
        }

    def start(self, name, *command, env=(), **options):
        log = open(self.folder / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            [str(part) for part in command], cwd=self.folder, env=self.env | dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def stop(self, name):
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(35)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self):
        """Nothing of it is kept."""
        for name, process in self.processes.items():
            # PostgreSQL takes its children along at a SIGQUIT only.
            process.send_signal(signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    def start_postgres(self):
        self.start("postgres", self.postgres / "postgres", "-D", self.folder / "pg", "-p", self.ports["postgres"], "-k", self.folder,
                   "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100", **self.switch)
        wait_for("PostgreSQL", lambda: self.sql("SELECT 1") == "1")

    def stop_postgres(self):
        # SIGTERM would wait for its clients.
        process = self.processes.pop("postgres")
        process.send_signal(signal.SIGINT)
        process.wait()

    def start_redis(self):
        self.start("redis", "redis-server", "--port", self.ports["redis"], "--bind", "127.0.0.1", "--save", "", "--maxmemory", "100mb")

    def start_euhub(self, role):
        env = {"EUHUB_METRICS_ADDR": f"127.0.0.1:{self.ports[f'{role}-metrics']}"}
        if role == "edge":
            env |= {"EUHUB_TLS_CERT": str(self.folder / "cert.pem"), "EUHUB_TLS_KEY": str(self.folder / "key.pem")}
        self.start(role, self.euhub, "serve" if role == "core" else role, env=env)

    def certificate(self, days):
        done = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", str(days),
                               "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failure(done.stderr)

    def sql(self, *statements):
        done = subprocess.run([self.postgres / "psql", "-XAtq", self.database, *(part for sql in statements for part in ("-c", sql))],
                              capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def redis(self, *command):
        done = subprocess.run(["redis-cli", "-p", str(self.ports["redis"]), *command], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def admin(self, method, path, body=None):
        return fetch(f"{self.edge}/api/v1/{path}", body, KEY, method)

    def query(self, path, **parameters):
        status, body = fetch(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        if status != 200:
            raise Failure(f"{parameters}: {status} {body.decode()}")
        return json.loads(body)["data"]["result"]

    def set_up(self):
        say(f"everything starts, in {self.folder}")
        self.certificate(365)
        done = subprocess.run([self.postgres / "initdb", "-D", self.folder / "pg", "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"],
                              cwd=self.folder, capture_output=True, text=True, check=False, **self.switch)
        if done.returncode != 0:
            raise Failure(done.stderr)
        self.start_postgres()
        self.start_redis()
        # The samples are not given to the language model, or its queue would be full for minutes.
        env = {name: value for name, value in self.env.items() if not name.startswith("EUHUB_LLM")}
        for verb in ("migrate", "seed"):
            done = subprocess.run([self.euhub, verb], cwd=self.folder, env=env, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failure(f"euhub {verb}: {done.stderr}")
        # The real outlets are not asked.
        self.sql("UPDATE sources SET paused = true")
        for role in ("core", "worker", "edge"):
            self.start_euhub(role)
        ports = self.ports
        self.start("postgres-exporter", "prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{ports['postgres-exporter']}",
                   f"--extend.query-path={MONITORING}/postgres_queries.yml")
        self.start("redis-exporter", "prometheus-redis-exporter", f"-redis.addr=redis://127.0.0.1:{ports['redis']}",
                   f"-web.listen-address=127.0.0.1:{ports['redis-exporter']}")
        self.start("node-exporter", "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{ports['node-exporter']}")
        self.write_configuration()
        self.start("alertmanager", "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=alertmanager",
                   "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{ports['alertmanager']}")
        self.start("prometheus", "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=prometheus",
                   f"--web.listen-address=127.0.0.1:{ports['prometheus']}")
        for source, language in (("steady", "en"), ("fickle", "de")):
            body = {"displayName": source, "country": "IE", "feeds": [{"url": f"{self.outside.url}/{source}", "language": language}]}
            wait_for(f"the source {source}", lambda body=body, source=source: self.admin("POST", f"sources?sourceId={source}", body)[0] in (200, 409))

    def write_configuration(self):
        rules = {name: (MONITORING / name).read_text() for name in ("recording_rules.yml", "alert_rules.yml")}
        for pattern, short in SHORT:
            if not any(re.search(pattern, text, flags=re.M) for text in rules.values()):
                raise Failure(f"no rule has {pattern} any more: mend SHORT.")
            say(f"in the rules {pattern} is {short} here")
            rules = {name: re.sub(pattern, short, text, flags=re.M) for name, text in rules.items()}
        for name, text in rules.items():
            (self.folder / name).write_text(text)
        text = (MONITORING / "prometheus.yml").read_text()
        ports = self.ports | {role: self.ports[f"{role}-metrics"] for role in ("core", "worker", "edge")} | {"localhost": self.ports["prometheus"]}
        text = re.sub(r"\[([\w-]+):\d+\]", lambda found: f"['127.0.0.1:{ports[found[1]]}']", text)
        text = re.sub(r"_interval: \w+", "_interval: 1s", text)
        # The exporter tries for a second before it says that PostgreSQL is away.
        (self.folder / "prometheus.yml").write_text(text.replace("job_name: postgres", "job_name: postgres\n    scrape_interval: 3s\n    scrape_timeout: 3s"))
        shutil.copy(MONITORING / "alertmanager.tmpl", self.folder)
        text = (MONITORING / "alertmanager.yml").read_text()
        # No mail is sent; beside Slack, which is our receiver, it hears of each alert as data.
        text = re.sub(r"^    email_configs:\n(      .*\n)+", f"    webhook_configs: [{{url: '{self.outside.url}/alerts'}}]\n", text, flags=re.M)
        text = re.sub(r"url: http://dead-.*", f"url: {self.outside.url}/watchdog", text)
        text = re.sub(r"slack_api_url_file: .*", f"slack_api_url_file: {self.folder}/slack", text)
        text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)
        (self.folder / "slack").write_text(f"{self.outside.url}/slack")
        (self.folder / "alertmanager.yml").write_text(text)


class Traffic:
    """Users, and the schedule in fast motion: feeds are fetched and the job of every minute runs each second or so."""

    PATHS = ("keywords", "keywords/energy", "keywords/no-such", "articles?pageSize={n}", "articles:search?query=energy+{n}&mode=LEXICAL",
             "articles:search?query=rising+bills+{n}&mode=SEMANTIC", "articles:search?query=prices+{n}", "articles/1:similar?pageSize={n}",
             "search:autocomplete?query=en", "sentiment:compare?keywords=energy&keywords=energy-prices", "sources", "status")

    def __init__(self, lab):
        self.lab, self.ending = lab, threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.read, self.read, self.read, self.run)]
        for thread in self.threads:
            thread.start()

    def read(self):
        n = 0
        while not self.ending.wait(0.1):
            n += 1
            fetch(f"{self.lab.edge}/api/v1/{self.PATHS[n % len(self.PATHS)].format(n=n % 50 + 1)}")

    def run(self):
        while not self.ending.wait(1):
            for source in ("steady", "fickle"):
                self.lab.admin("POST", f"sources/{source}:ingest")
            self.lab.admin("POST", "admin/jobs/enqueue-due-feeds:run")

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()


def find_euhub():
    named = os.environ.get("EUHUB_PROGRAM")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [Path(named)] if named else [path for kind in ("release", "debug") if (path := target / kind / "euhub").exists()]
    if not built:
        raise Failure(f"no euhub in {target}: build it, or name it by EUHUB_PROGRAM.")
    return max(built, key=lambda path: path.stat().st_mtime).absolute()


def find_postgres():
    data = Path(os.environ.get("EUHUB_DATA_DIR", ROOT / ".euhub"))
    folder = Path(os.environ.get("EUHUB_PG_BIN", data / "postgres/bin")).absolute()
    if not (folder / "initdb").exists():
        raise Failure(f"no PostgreSQL with pgvector in {folder}: scripts/postgres-bundle fetches one, or name it by EUHUB_PG_BIN.")
    return folder
