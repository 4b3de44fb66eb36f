package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/quic-go/quic-go/quicvarint"
	"github.com/quic-go/webtransport-go"
)

func (c *client) dialWebTransport(ctx context.Context, path string) (*webtransport.Session, int, error) {
	dialer := webtransport.Dialer{TLSClientConfig: c.tls, QUICConfig: c.quicConfig()}
	rsp, session, err := dialer.Dial(ctx, "https://"+c.address+path, nil)
	status := 0
	if rsp != nil {
		status = rsp.StatusCode
	}
	return session, status, err
}

// webTransportFlow SERVICE PROOF: a page's session: the proof on its first stream, then a flow on another.
func webTransportFlow(ctx context.Context, c *client, args []string) (result, error) {
	session, status, err := c.dialWebTransport(ctx, "/.well-known/ginnel/agent")
	if err != nil {
		return nil, err
	}
	defer session.CloseWithError(0, "")
	hello, err := session.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeMessage(hello, map[string]any{"type": "hello", "proof": args[1]}); err != nil {
		return nil, err
	}
	admitted, err := readMessage(hello)
	if err != nil {
		return nil, err
	}
	flow, err := session.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeMessage(flow, map[string]any{"type": "dial", "service": args[0]}); err != nil {
		return nil, err
	}
	opened, err := readMessage(flow)
	if err != nil {
		return nil, err
	}
	seen := result{"status": status, "admitted": admitted["status"], "opened": opened["status"]}
	if opened["status"] != 200.0 {
		return seen, nil
	}
	sent := payload()
	failed := make(chan error, 1)
	go func() {
		_, err := flow.Write(sent)
		flow.Close()
		failed <- err
	}()
	echoed, err := io.ReadAll(flow)
	if err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	seen["intact"] = bytes.Equal(echoed, sent)
	return seen, nil
}

// webTransportEcho PATH CODE: streams both ways, datagrams, and a close that carries CODE.
func webTransportEcho(ctx context.Context, c *client, args []string) (result, error) {
	code, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return nil, err
	}
	session, status, err := c.dialWebTransport(ctx, args[0])
	if err != nil {
		return nil, err
	}
	sent := payload()
	stream, err := session.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	go func() {
		stream.Write(sent)
		stream.Close()
	}()
	echoed, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	uni, err := session.OpenUniStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := uni.Write([]byte("one way")); err != nil {
		return nil, err
	}
	if err := uni.Close(); err != nil {
		return nil, err
	}
	back, err := session.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	said, err := io.ReadAll(back)
	if err != nil {
		return nil, err
	}
	datagram, err := exchangeDatagram(ctx, session)
	if err != nil {
		return nil, err
	}
	if err := session.CloseWithError(webtransport.SessionErrorCode(code), "done"); err != nil {
		return nil, err
	}
	// The close is only queued: leaving at once would take the connection down before it was sent.
	time.Sleep(200 * time.Millisecond)
	return result{
		"status": status, "intact": bytes.Equal(echoed, sent), "serverSaid": string(said), "datagram": datagram,
	}, nil
}

// exchangeDatagram repeats until an echo returns: datagrams may be lost.
func exchangeDatagram(ctx context.Context, session *webtransport.Session) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		bytes []byte
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		bytes, err := session.ReceiveDatagram(ctx)
		answers <- answer{bytes, err}
	}()
	for attempt := 0; attempt < 50; attempt++ {
		if err := session.SendDatagram([]byte("ping")); err != nil {
			return "", err
		}
		select {
		case got := <-answers:
			return string(got.bytes), got.err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return "", errors.New("no datagram came back")
}

// writeMessage and readMessage speak the relay's framing: a varint length, then JSON.
func writeMessage(w io.Writer, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = w.Write(append(quicvarint.Append(nil, uint64(len(text))), text...))
	return err
}

func readMessage(r io.Reader) (map[string]any, error) {
	length, err := quicvarint.Read(quicvarint.NewReader(r))
	if err != nil {
		return nil, err
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	var message map[string]any
	return message, json.Unmarshal(text, &message)
}
