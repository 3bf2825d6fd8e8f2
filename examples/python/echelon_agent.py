"""A client of the registry agent beside this program; Python 3.9 or newer, standard library only, Linux.

    agent = Agent()
    agent.nearest("command-control")          # {"host": "agent1", "endpoint": "127.0.0.11:7000"}
    sock = agent.connect("command-control")   # a connected socket.socket
    for route in agent.watch("command-control"):
        print(route["chosen"])
    for role in agent.watch_role("command-control"):    # of this host's own manager
        print(role["role"], role["fencing"])

One Agent may be used by several threads at once.
"""

import array
import http.client
import json
import os
import socket
import threading
import time
import urllib.parse

DEFAULT_SOCKET = "/run/echelon/agent.sock"

# The agent answers from memory; a second already means a stuck machine.
CALL_TIMEOUT = 5.0

# How long the agent may hold a question back while nothing changes.
WAIT = 30

# The agent gives up after 30 s with the reason, which is worth waiting for.
CONNECT_TIMEOUT = 35.0

# An agent's answers on direct.sock have under 2 KiB, its routes over 10,000 managers under 3 MiB.
MAX_LINE = 4096
MAX_ANSWER = 8 << 20

# Pause after a question of a watch that brought nothing new: the first, and what it is doubled to.
PAUSE = (0.1, 5.0)


class AgentError(Exception):
    """No answer, or not the one that was wanted. `error` is its name, `retriable` whether asking again can help."""

    def __init__(self, error, message, retriable):
        super().__init__(message)
        self.error = error
        self.retriable = retriable


class Agent:
    """The agent at this unix socket: the argument, else ECHELON_AGENT_SOCKET, else the default."""

    def __init__(self, path=None):
        self.path = path or os.environ.get("ECHELON_AGENT_SOCKET") or DEFAULT_SOCKET
        self._direct = os.path.join(os.path.dirname(self.path), "direct.sock")
        self._lock = threading.Lock()
        self._kept = None

    def route(self, type_):
        """The route for a type, with all candidates; its "outcome" may be "unserved"."""
        return self._route(type_, {}, CALL_TIMEOUT)

    def nearest(self, type_):
        """The manager of a type that this host uses now: a dict of "host" and "endpoint"."""
        route = self.route(type_)
        if route["chosen"] is None:
            raise AgentError("unserved", f"nobody serves {type_} here: {route['cause']}", True)
        return route["chosen"]

    def watch(self, type_):
        """Yields the present route, then each in which the choice or the order differs; outlives the agent."""
        return self._follow(self._route, type_)

    def role(self, type_):
        """What this host's own manager of a type is: "role" is "primary", "backup" or None, "fencing" its number.

        The number is a token for what the primary writes to, which must remember the largest that it has seen and
        refuse lower ones. It is no lock: somebody else may be primary by now.
        """
        return self._role(type_, {}, CALL_TIMEOUT)

    def watch_role(self, type_):
        """Yields the present role, then each that differs in role or number; outlives the agent.

        AgentError "unknown-package" says that the host has no such package, or none any more: it is not primary.
        """
        return self._follow(self._role, type_)

    def _follow(self, ask, type_):
        tag, pause = None, 0.0
        while True:
            query = {} if tag is None else {"after": tag, "wait": f"{WAIT}s"}
            try:
                answer = ask(type_, query, WAIT + CALL_TIMEOUT)
            except AgentError as error:
                if not error.retriable:
                    raise
                pause = min(max(pause * 2, PAUSE[0]), PAUSE[1])
                time.sleep(pause)
                continue
            pause = 0.0
            if not isinstance(answer.get("tag"), str):
                raise AgentError("malformed", "the agent's answer has no tag: the agent is too old to be watched", False)
            if answer["tag"] == tag:
                # It has waited in vain. An agent that does not wait is not hurried.
                time.sleep(PAUSE[0])
                continue
            tag = answer["tag"]
            yield answer

    def connect(self, type_):
        """A socket connected to the nearest live manager of a type, past those that refuse or are silent.

        The agent makes the connection and hands it over: data never passes through the agent.
        """
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            try:
                return self._ask(kept, type_)
            except _Lost:
                pass  # The agent closes it after a while of silence, and when it is started anew.
        try:
            return self._ask(_unix(self._direct, CONNECT_TIMEOUT), type_)
        except _Lost:
            raise AgentError("ended", "the agent ended the connection without an answer", True) from None

    def _ask(self, agent, type_):
        keep = False
        try:
            line, descriptors = _exchange(agent, f"{type_}\n".encode())
            keep = True
        finally:
            if not keep:
                agent.close()
        with self._lock:
            self._kept, spare = agent, self._kept
        if spare is not None:
            spare.close()
        return _connection(line, descriptors)

    def _route(self, type_, query, timeout):
        return self._told("routes", "candidates", type_, query, timeout)

    def _role(self, type_, query, timeout):
        return self._told("roles", "fencing", type_, query, timeout)

    def _told(self, section, key, type_, query, timeout):
        path = f"/v1/{section}/" + urllib.parse.quote(type_, safe="")
        if query:
            path += "?" + urllib.parse.urlencode(query)
        status, answer = self._get(path, timeout)
        if key in answer:
            return answer
        error, message = answer.get("error", "malformed"), answer.get("message", "no reason given")
        raise AgentError(error, message, status >= 500)

    def _get(self, path, timeout):
        connection = _UnixConnection(self.path, timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER + 1)
            if len(body) > MAX_ANSWER:
                raise AgentError("malformed", "the agent's answer is too long", False)
            answer = json.loads(body)
            if not isinstance(answer, dict):
                raise ValueError("not an object")
            return response.status, answer
        except socket.timeout:
            raise AgentError("timeout", "the agent gave no answer in time", True) from None
        except (OSError, http.client.HTTPException) as error:
            raise AgentError("ended", f"the agent broke off its answer: {error}", True) from error
        except ValueError as error:
            raise AgentError("malformed", f"the answer is none of an agent's: {error}", False) from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = _unix(self._path, self.timeout)


class _Lost(Exception):
    """The connection to the agent ended before an answer."""


def _unix(path, timeout):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        message = f"no agent answers at {path}: {error}; check that it runs and that this user may use its socket"
        raise AgentError("no-agent", message, not isinstance(error, PermissionError)) from error
    return sock


def _exchange(agent, request):
    """Sends a request; gives the line of the answer and the descriptors that came with it."""
    line, descriptors, whole = b"", [], False
    try:
        agent.sendall(request)
        while not line.endswith(b"\n"):
            # Not socket.recv_fds, which would not keep descriptors from programs that are started meanwhile.
            room = socket.CMSG_SPACE(array.array("i").itemsize)
            data, ancillary, flags, _ = agent.recvmsg(MAX_LINE - len(line), room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    found = array.array("i")
                    found.frombytes(content[: len(content) - len(content) % found.itemsize])
                    descriptors += found
            if not data:
                raise _Lost
            line += data
            if flags & socket.MSG_CTRUNC or len(line) >= MAX_LINE:
                raise AgentError("malformed", "the answer is none of an agent's", False)
        whole = True
        return line, descriptors
    except socket.timeout:
        raise AgentError("timeout", "the agent gave no connection in time", True) from None
    except OSError as error:
        raise _Lost from error
    finally:
        if not whole:
            _close(descriptors)


def _connection(line, descriptors):
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise AgentError(answer["error"], answer["message"], answer.get("retry") == "safe")
        if len(descriptors) != 1 or "endpoint" not in answer:
            raise AgentError("malformed", "the answer is none of an agent's", False)
        connection = socket.socket(fileno=descriptors[0])
        descriptors.clear()
        return connection
    except (ValueError, TypeError, KeyError) as error:
        raise AgentError("malformed", f"the answer is none of an agent's: {error}", False) from error
    finally:
        _close(descriptors)


def _close(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)
