// Command interop speaks to a Ginnel relay with software that is not Ginnel's: quic-go's HTTP/3 and webtransport-go.
//
//	interop -address 127.0.0.1:4433 -root ca.crt [-proof JWT] SCENARIO [ARGUMENT...]
//
// Every scenario makes one connection and prints one JSON object with what it saw; the test that runs it judges.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const timeout = 20 * time.Second

// client is where to connect and as whom.
type client struct {
	address, serverName, proof string
	tls                        *tls.Config
}

// result is what a scenario saw; keys are the test's concern.
type result map[string]any

var scenarios = map[string]func(context.Context, *client, []string) (result, error){
	"request":           request,
	"view":              view,
	"connect-tcp":       connectTCP,
	"connect":           connect,
	"webtransport-flow": webTransportFlow,
	"webtransport-echo": webTransportEcho,
}

func main() {
	address := flag.String("address", "", "host:port to connect to")
	name := flag.String("name", "relay-1.relay.ginnel.internal", "name the certificate must carry")
	root := flag.String("root", "", "file with the CA's certificate")
	proof := flag.String("proof", "", "proof of identity, a JWT")
	flag.Parse()
	scenario, known := scenarios[flag.Arg(0)]
	if !known {
		fmt.Fprintf(os.Stderr, "interop: no scenario %q\n", flag.Arg(0))
		os.Exit(2)
	}
	pem, err := os.ReadFile(*root)
	check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		check(fmt.Errorf("no certificate in %s", *root))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c := &client{
		address: *address, serverName: *name, proof: *proof,
		tls: &tls.Config{RootCAs: roots, ServerName: *name, NextProtos: []string{http3.NextProtoH3}, MinVersion: tls.VersionTLS13},
	}
	seen, err := scenario(ctx, c, flag.Args()[1:])
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(seen))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func (c *client) quicConfig() *quic.Config {
	return &quic.Config{EnableDatagrams: true, HandshakeIdleTimeout: 10 * time.Second}
}

// dial opens one HTTP/3 connection and waits for the relay's settings.
func (c *client) dial(ctx context.Context) (*http3.ClientConn, func(), error) {
	conn, err := quic.DialAddr(ctx, c.address, c.tls, c.quicConfig())
	if err != nil {
		return nil, nil, err
	}
	transport := &http3.Transport{EnableDatagrams: true}
	h3 := transport.NewClientConn(conn)
	select {
	case <-h3.ReceivedSettings():
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("no settings: %w", ctx.Err())
	}
	return h3, func() { conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }, nil
}

func (c *client) newRequest(ctx context.Context, method, path string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.serverName+path, nil)
	if err == nil && c.proof != "" {
		req.Header.Set("Authorization", "Bearer "+c.proof)
	}
	return req, err
}

// request METHOD PATH: the status, and what the relay says about it.
func request(ctx context.Context, c *client, args []string) (result, error) {
	h3, closeConn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	req, err := c.newRequest(ctx, args[0], args[1])
	if err != nil {
		return nil, err
	}
	settings := h3.Settings()
	rsp, err := h3.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	return result{
		"status": rsp.StatusCode, "proxyStatus": rsp.Header.Get("Proxy-Status"), "authenticate": rsp.Header.Get("WWW-Authenticate"),
		"extendedConnect": settings.EnableExtendedConnect, "datagrams": settings.EnableDatagrams,
	}, nil
}

// view: the first lines of the stream of signed views.
func view(ctx context.Context, c *client, _ []string) (result, error) {
	h3, closeConn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	req, err := c.newRequest(ctx, http.MethodGet, "/.well-known/ginnel/view")
	if err != nil {
		return nil, err
	}
	rsp, err := h3.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	types := []string{}
	lines := bufio.NewScanner(rsp.Body)
	for len(types) < 2 && lines.Scan() {
		var message struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(lines.Bytes(), &message); err != nil {
			return nil, err
		}
		types = append(types, message.Type)
	}
	return result{"status": rsp.StatusCode, "contentType": rsp.Header.Get("Content-Type"), "types": types}, nil
}
