package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	connectip "github.com/quic-go/connect-ip-go"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/yosida95/uritemplate/v3"
)

const setUpTime = 10 * time.Second

// runClient shows who it is, opens a tunnel and puts it on a TUN interface with the addresses and routes it was given.
func runClient(args []string) error {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	address := flags.String("address", "", "host:port of the proxy")
	name := flags.String("name", "relay-1.relay.ginnel.internal", "name the certificate must carry")
	root := flags.String("root", "", "file with the CA's certificate")
	proof := flags.String("proof", "", "proof of identity: shown in a GET on the same connection first")
	authorization := flags.String("authorization", "", "value of the Authorization header of the tunnel's own request")
	path := flags.String("path", "/.well-known/masque/ip/*/*/", "path of the tunnel")
	tunName := flags.String("tun", "goip0", "name of the interface")
	flags.Parse(args)

	tlsConfig, err := clientTLS(*root, *name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpTime)
	defer cancel()
	conn, err := quic.DialAddr(ctx, *address, tlsConfig, quicConfig())
	if err != nil {
		return err
	}
	h3 := (&http3.Transport{EnableDatagrams: true}).NewClientConn(conn)
	if *proof != "" {
		// The answer's stream of views stays open for as long as the connection.
		if err := authenticate(context.Background(), h3, *name, *proof); err != nil {
			return err
		}
	}
	template, err := uritemplate.New("https://" + *name + *path)
	if err != nil {
		return err
	}
	// Not the set-up's context: it would end the tunnel with it.
	request, err := connectip.NewRequest(context.Background(), template)
	if err != nil {
		return err
	}
	if *authorization != "" {
		request.Header().Set("Authorization", *authorization)
	}
	tunnel, response, err := connectip.NewClientConn(h3).Dial(request)
	if err != nil {
		if response != nil {
			say("refused", fields{"status": response.StatusCode, "proxyStatus": response.Header.Get("Proxy-Status")})
		}
		return err
	}
	say("granted", fields{"status": response.StatusCode})
	t, err := openTun(*tunName)
	if err != nil {
		return err
	}
	assigned, err := tunnel.ReceiveAddressAssignment(ctx)
	if err != nil {
		return fmt.Errorf("no addresses: %w", err)
	}
	routes, err := tunnel.Routes(ctx)
	if err != nil {
		return fmt.Errorf("no routes: %w", err)
	}
	addresses := []string{}
	for _, assignment := range assigned {
		addresses = append(addresses, assignment.IPPrefix.String())
		if err := ip("addr", "replace", assignment.IPPrefix.String(), "dev", t.name, "nodad"); err != nil {
			return err
		}
	}
	for _, prefix := range prefixesOf(routes) {
		if err := ip("route", "replace", prefix, "dev", t.name); err != nil {
			say("route_refused", fields{"prefix": prefix, "error": err.Error()})
		}
	}
	say("ready", fields{
		"status": response.StatusCode, "capsuleProtocol": response.Header.Get(http3.CapsuleProtocolHeader),
		"addresses": addresses, "routes": prefixesOf(routes),
	})
	go fromTun(context.Background(), t, func([]byte) *connectip.Conn { return tunnel })
	go announceRoutes(tunnel)
	err = toTun(tunnel, t, &counters{})
	say("ended", fields{"error": err.Error()})
	return nil
}

// announceRoutes says what later advertisements contain; it leaves the interface's routes alone.
func announceRoutes(tunnel *connectip.Conn) {
	for {
		routes, err := tunnel.Routes(context.Background())
		if err != nil {
			return
		}
		say("routes", fields{"routes": prefixesOf(routes)})
	}
}

// authenticate asks for the view with the proof, and keeps reading it, as every client of the relay does.
func authenticate(ctx context.Context, h3 *http3.ClientConn, name, proof string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+"/.well-known/ginnel/view", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+proof)
	response, err := h3.RoundTrip(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the view answered %d", response.StatusCode)
	}
	go func() {
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		}
	}()
	return nil
}

func clientTLS(root, name string) (*tls.Config, error) {
	pem, err := os.ReadFile(root)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", root)
	}
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{http3.NextProtoH3}, MinVersion: tls.VersionTLS13}, nil
}

func quicConfig() *quic.Config {
	return &quic.Config{
		EnableDatagrams:      true,
		InitialPacketSize:    initialPacketSize,
		HandshakeIdleTimeout: 10 * time.Second,
		KeepAlivePeriod:      10 * time.Second,
	}
}
