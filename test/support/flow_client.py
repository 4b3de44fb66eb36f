"""A program on a user's machine that knows nothing of the network, and the upstream that it speaks to.

serve NAME PORT       echoes TCP and UDP on 127.0.0.1, its name in front
tcp HOST PORT         one new connection; prints `MS NAME` or `MS error WHY`, names looked up included
udp HOST PORT         the same by datagrams, sent until one is answered
tcp-ticks HOST PORT   one connection that speaks every 50 ms; prints `tick N NAME` until `broken WHY`
udp-ticks HOST PORT   the same by one connected socket, which never breaks: `tick N NAME`, `error WHY`
idle HOST PORT        one connection that says nothing after `open NAME`; at SIGUSR1 prints `MS NAME` or `MS error WHY`
load HOST PORT COUNT  as many connections at once, each speaking ten times; prints `MS NAME...`, every name that answered
"""

import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 10


def main(what, host, port, count=0):
    {
        "serve": serve,
        "tcp": lambda host, port: once(lambda: ask_tcp(host, port)),
        "udp": lambda host, port: once(lambda: ask_udp(host, port)),
        "tcp-ticks": tcp_ticks,
        "udp-ticks": udp_ticks,
        "idle": idle,
        "load": lambda host, port: once(lambda: load(host, port, int(count))),
    }[what](host, int(port))


def serve(name, port):
    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=serve_udp, args=(name, port), daemon=True).start()
    say("serving")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_tcp, args=(connection, name), daemon=True).start()


def serve_tcp(connection, name):
    try:
        while asked := connection.recv(65536):
            connection.sendall(name.encode() + b"\n")
    except OSError:
        pass
    connection.close()


def serve_udp(name, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", port))
    while True:
        asked, who = server.recvfrom(65536)
        server.sendto(name.encode() + b" " + asked, who)


def ask_tcp(host, port):
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        return exchange(connection)


def exchange(connection):
    connection.sendall(b"?\n")
    answer = connection.recv(1024)
    if not answer:
        raise OSError("closed")
    return answer.decode().strip()


def ask_udp(host, port):
    client = udp_to(host, port)
    client.settimeout(0.1)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        client.send(b"?")
        try:
            return client.recv(1024).decode().split()[0]
        except TimeoutError:
            pass
    raise TimeoutError("timed out")


def udp_to(host, port):
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    client = socket.socket(family, kind)
    client.connect(address)
    return client


def tcp_ticks(host, port):
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        connection.settimeout(60)
        number = 0
        while True:
            number += 1
            try:
                say(f"tick {number} {exchange(connection)}")
            except OSError as error:
                return say(f"broken {why(error)}")
            time.sleep(0.05)


def udp_ticks(host, port):
    client = udp_to(host, port)
    client.settimeout(0.1)
    number = 1
    while True:
        try:
            client.send(b"?")
            say(f"tick {number} {client.recv(1024).decode().split()[0]}")
            number += 1
            time.sleep(0.05)
        except TimeoutError:
            pass
        except OSError as error:
            say(f"error {why(error)}")
            time.sleep(0.05)


def idle(host, port):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        say(f"open {exchange(connection)}")
        signal.sigwait([signal.SIGUSR1])
        once(lambda: exchange(connection))


def load(host, port, count):
    with ThreadPoolExecutor(count) as pool:
        return " ".join(sorted(set(pool.map(lambda _: speak(host, port), range(count)))))


def speak(host, port):
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        return [exchange(connection) for _ in range(10)][-1]


def once(ask):
    started = time.monotonic()
    try:
        answer = ask()
    except OSError as error:
        answer = f"error {why(error)}"
    say(f"{round((time.monotonic() - started) * 1000)} {answer}")


def why(error):
    return error.strerror or str(error)


def say(line):
    print(line, flush=True)


main(*sys.argv[1:])
