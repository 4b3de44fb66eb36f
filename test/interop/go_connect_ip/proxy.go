package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	connectip "github.com/quic-go/connect-ip-go"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/yosida95/uritemplate/v3"
)

// proxy gives every client the next address of each pool and the same routes.
type proxy struct {
	tun           *tun
	routes        []connectip.IPRoute
	authorization string
	path          string
	received      counters

	mu      sync.Mutex
	next    []netip.Addr // one per pool
	clients map[netip.Addr]*connectip.Conn
}

// runProxy serves tunnels onto one TUN interface. What they received is told at SIGTERM, by IP protocol.
func runProxy(args []string) error {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	listen := flags.String("listen", "", "address to listen on")
	cert := flags.String("cert", "", "certificate, PEM")
	key := flags.String("key", "", "key, PEM")
	tunName := flags.String("tun", "goip0", "name of the interface")
	authorization := flags.String("authorization", "", "value the Authorization header must have")
	path := flags.String("path", "/.well-known/masque/ip/*/*/", "path of the tunnel")
	var pools, routes list
	flags.Var(&pools, "pool", "prefix to assign addresses from; its first is the proxy's own (repeatable)")
	flags.Var(&routes, "route", "prefix to advertise, with /PROTOCOL at its end if not for all (repeatable, in order)")
	flags.Parse(args)

	p := &proxy{authorization: *authorization, path: *path, clients: map[netip.Addr]*connectip.Conn{}}
	for _, text := range routes {
		route, err := parseRoute(text)
		if err != nil {
			return err
		}
		p.routes = append(p.routes, route)
	}
	var err error
	if p.tun, err = openTun(*tunName); err != nil {
		return err
	}
	for _, text := range pools {
		pool, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		own := pool.Masked().Addr().Next()
		p.next = append(p.next, own.Next())
		if err := ip("addr", "replace", netip.PrefixFrom(own, pool.Bits()).String(), "dev", *tunName, "nodad"); err != nil {
			return err
		}
	}
	go fromTun(context.Background(), p.tun, p.clientOf)
	go p.tellAtEnd()
	return p.serve(*listen, *cert, *key)
}

func (p *proxy) serve(listen, certFile, keyFile string) error {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	tlsConfig := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{http3.NextProtoH3}, MinVersion: tls.VersionTLS13}
	listener, err := quic.ListenAddrEarly(listen, tlsConfig, quicConfig())
	if err != nil {
		return err
	}
	say("listening", fields{"port": listener.Addr().(*net.UDPAddr).Port})
	server := &http3.Server{EnableDatagrams: true, Handler: http.HandlerFunc(p.handle)}
	return server.ServeListener(listener)
}

func (p *proxy) handle(w http.ResponseWriter, r *http.Request) {
	if p.authorization != "" && r.Header.Get("Authorization") != p.authorization {
		say("denied", fields{"method": r.Method, "protocol": r.Proto})
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path != p.path {
		say("unknown_path", fields{"path": r.URL.Path})
		w.WriteHeader(http.StatusNotFound)
		return
	}
	// The template of whatever name the client knows us by: names are the certificate's business.
	template, err := uritemplate.New("https://" + r.Host + p.path)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	request, err := connectip.ParseProxyRequest(r, template)
	if err != nil {
		say("bad_request", fields{"error": err.Error()})
		status := http.StatusBadRequest
		if fault, ok := errors.AsType[*connectip.ProxyRequestParseError](err); ok {
			status = fault.HTTPStatus
		}
		w.WriteHeader(status)
		return
	}
	conn, err := (&connectip.Proxy{}).Proxy(w, request)
	if err != nil {
		say("failed", fields{"error": err.Error()})
		return
	}
	if err := p.carry(conn, r.Host); err != nil {
		say("ended", fields{"error": err.Error()})
	}
}

// carry gives a client its addresses and the routes, and then its packets.
func (p *proxy) carry(conn *connectip.Conn, authority string) error {
	defer conn.Close()
	prefixes := p.assign(conn)
	defer p.forget(conn)
	if err := conn.AssignAddresses(prefixes); err != nil {
		return err
	}
	if err := conn.AdvertiseRoute(p.routes); err != nil {
		return fmt.Errorf("advertise: %w", err)
	}
	addresses := []string{}
	for _, prefix := range prefixes {
		addresses = append(addresses, prefix.String())
	}
	say("tunnel", fields{"addresses": addresses, "authority": authority})
	go p.answerRequests(conn, prefixes)
	return toTun(conn, p.tun, &p.received)
}

func (p *proxy) assign(conn *connectip.Conn) []netip.Prefix {
	p.mu.Lock()
	defer p.mu.Unlock()
	prefixes := []netip.Prefix{}
	for i, address := range p.next {
		p.next[i] = address.Next()
		p.clients[address] = conn
		prefixes = append(prefixes, netip.PrefixFrom(address, address.BitLen()))
	}
	return prefixes
}

// answerRequests answers each ADDRESS_REQUEST with the addresses the client has already, as each assignment replaces the one before.
func (p *proxy) answerRequests(conn *connectip.Conn, prefixes []netip.Prefix) {
	for {
		request, err := conn.ReceiveAddressRequest(context.Background())
		if err != nil {
			return
		}
		say("address_request", fields{})
		answers, unasked := match(request.Prefixes, prefixes)
		if err := request.Respond(answers, unasked); err != nil {
			say("failed", fields{"error": err.Error()})
		}
	}
}

// match gives each wish the client's address of that family; the zero prefix refuses what there is none for.
func match(wishes, prefixes []netip.Prefix) (answers, unasked []netip.Prefix) {
	unasked = slices.Clone(prefixes)
	for _, wish := range wishes {
		at := slices.IndexFunc(unasked, func(p netip.Prefix) bool { return p.Addr().Is4() == wish.Addr().Is4() })
		if at < 0 {
			answers = append(answers, netip.Prefix{})
			continue
		}
		answers = append(answers, unasked[at])
		unasked = slices.Delete(unasked, at, at+1)
	}
	return answers, unasked
}

func (p *proxy) forget(conn *connectip.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, client := range p.clients {
		if client == conn {
			delete(p.clients, address)
		}
	}
}

// clientOf finds whose address a packet is for.
func (p *proxy) clientOf(packet []byte) *connectip.Conn {
	var destination netip.Addr
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		destination = netip.AddrFrom4([4]byte(packet[16:20]))
	case len(packet) >= 40 && packet[0]>>4 == 6:
		destination = netip.AddrFrom16([16]byte(packet[24:40]))
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clients[destination]
}

// tellAtEnd says what came through the tunnels, by IP protocol, when the proxy is told to stop.
func (p *proxy) tellAtEnd() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	say("received", p.received.fields())
	os.Exit(0)
}
