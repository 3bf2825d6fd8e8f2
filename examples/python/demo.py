#!/usr/bin/env python3
"""Asks the agent beside this program for a type: who is nearest, a connection, and what changes.

    ECHELON_AGENT_SOCKET=/tmp/echelon/web2/agent.sock ./demo.py audit [--watch]
"""

import argparse
import sys

from echelon_agent import Agent, AgentError


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("type", help="the type of manager, such as command-control")
    parser.add_argument("--line", default="who", help="what is said to it [who]")
    parser.add_argument("--watch", action="store_true", help="follow the route afterwards")
    arguments = parser.parse_args()
    agent = Agent()
    try:
        nearest = agent.nearest(arguments.type)
        print(f"nearest   {nearest['host']} at {nearest['endpoint']}", flush=True)
        with agent.connect(arguments.type) as connection:
            connection.settimeout(10)
            print("connected to %s:%d" % connection.getpeername()[:2], flush=True)
            connection.sendall(arguments.line.encode() + b"\n")
            with connection.makefile() as lines:
                print(f"answered  {lines.readline().rstrip()}", flush=True)
        if arguments.watch:
            for route in agent.watch(arguments.type):
                chosen = route["chosen"]
                cause = f" ({route['cause']})" if route["cause"] else ""
                print(f"route     {chosen['host'] if chosen else 'nobody'}{cause}", flush=True)
    except AgentError as error:
        print(f"error: {error}; asking again is {'safe' if error.retriable else 'pointless'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
