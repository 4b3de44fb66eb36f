package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
)

// Capsule types of a connect-tcp request.
const (
	dataCapsule      http3.CapsuleType = 0x2028d7f0
	finalDataCapsule http3.CapsuleType = 0x2028d7f1
	greaseCapsule    http3.CapsuleType = 0x29*7 + 0x17 // unknown types must be skipped
)

const payloadSize = 1 << 20

func payload() []byte {
	bytes := make([]byte, payloadSize)
	rand.New(rand.NewSource(1)).Read(bytes)
	return bytes
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// open sends a CONNECT request and returns its stream once the relay answered.
func (c *client) open(ctx context.Context, req *http.Request) (*http3.RequestStream, *http.Response, func(), error) {
	h3, closeConn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stream, err := h3.OpenRequestStream(ctx)
	if err != nil {
		return nil, nil, closeConn, err
	}
	if err := stream.SendRequestHeader(req); err != nil {
		return nil, nil, closeConn, err
	}
	rsp, err := stream.ReadResponse()
	return stream, rsp, closeConn, err
}

// connectTCP SERVICE: extended CONNECT, a megabyte there and back in capsules, closed cleanly.
func connectTCP(ctx context.Context, c *client, args []string) (result, error) {
	req, err := c.newRequest(ctx, http.MethodConnect, "/.well-known/masque/tcp/"+args[0]+"/443/")
	if err != nil {
		return nil, err
	}
	req.Proto = "connect-tcp"
	req.Header.Set(http3.CapsuleProtocolHeader, "?1")
	stream, rsp, closeConn, err := c.open(ctx, req)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	if rsp.StatusCode != http.StatusOK {
		return result{"status": rsp.StatusCode, "proxyStatus": rsp.Header.Get("Proxy-Status")}, nil
	}
	sent := payload()
	failed := make(chan error, 1)
	go func() { failed <- sendCapsules(stream, sent) }()
	echoed, final, err := receiveCapsules(stream)
	if err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	return result{
		"status": rsp.StatusCode, "capsuleProtocol": rsp.Header.Get(http3.CapsuleProtocolHeader),
		"bytes": len(echoed), "intact": bytes.Equal(echoed, sent), "final": final,
	}, nil
}

// sendCapsules writes data in capsules of uneven size with an unknown one between, the last bytes in the final one.
func sendCapsules(stream *http3.RequestStream, data []byte) error {
	writer := quicvarint.NewWriter(stream)
	for size := 1; len(data) > size; size = size*3 + 1 {
		if err := http3.WriteCapsule(writer, dataCapsule, data[:size]); err != nil {
			return err
		}
		if err := http3.WriteCapsule(writer, greaseCapsule, []byte("skip me")); err != nil {
			return err
		}
		data = data[size:]
	}
	if err := http3.WriteCapsule(writer, finalDataCapsule, data); err != nil {
		return err
	}
	return stream.Close()
}

func receiveCapsules(stream io.Reader) (data []byte, final bool, err error) {
	reader := quicvarint.NewReader(stream)
	for {
		kind, value, err := http3.ParseCapsule(reader)
		if err == io.EOF {
			return data, final, nil
		}
		if err != nil {
			return nil, false, err
		}
		piece, err := io.ReadAll(value)
		if err != nil {
			return nil, false, err
		}
		if final {
			return nil, false, fmt.Errorf("a capsule of type %#x after the final one", uint64(kind))
		}
		if kind == dataCapsule || kind == finalDataCapsule {
			data = append(data, piece...)
		}
		final = kind == finalDataCapsule
	}
}

// connect SERVICE: classic CONNECT, a megabyte there and back, each direction ended by FIN.
func connect(ctx context.Context, c *client, args []string) (result, error) {
	req, err := c.newRequest(ctx, http.MethodConnect, "")
	if err != nil {
		return nil, err
	}
	req.Host = args[0] + ":443"
	req.URL = &url.URL{Host: req.Host}
	stream, rsp, closeConn, err := c.open(ctx, req)
	if err != nil {
		return nil, err
	}
	defer closeConn()
	if rsp.StatusCode != http.StatusOK {
		return result{"status": rsp.StatusCode, "proxyStatus": rsp.Header.Get("Proxy-Status")}, nil
	}
	sent := payload()
	failed := make(chan error, 1)
	go func() {
		_, err := stream.Write(sent)
		stream.Close()
		failed <- err
	}()
	echoed, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	return result{"status": rsp.StatusCode, "bytes": len(echoed), "intact": digest(echoed) == digest(sent)}, nil
}
