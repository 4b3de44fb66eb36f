// Command go_connect_ip is connect-ip-go (RFC 9484) with a TUN interface behind it, as a client or as a proxy.
//
//	go_connect_ip client -address 10.77.0.3:4433 -root ca.crt [-proof JWT] -tun goip0
//	go_connect_ip proxy -listen 10.77.0.3:443 -cert cert.pem -key key.pem -tun goip0 -pool 10.200.0.0/24 -route 0.0.0.0/0
//
// Both print one JSON object per line with what they see (`event` says what), and run until they are ended.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	connectip "github.com/quic-go/connect-ip-go"
)

// Large enough for IP packets of 1280 bytes from the first flight on; path MTU discovery raises it later.
const initialPacketSize = 1350

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("expected client or proxy"))
	}
	var err error
	switch os.Args[1] {
	case "client":
		err = runClient(os.Args[2:])
	case "proxy":
		err = runProxy(os.Args[2:])
	default:
		err = fmt.Errorf("expected client or proxy, got %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	say("failed", fields{"error": err.Error()})
	os.Exit(1)
}

type fields map[string]any

var output sync.Mutex

// say prints one event.
func say(event string, with fields) {
	line := fields{"event": event}
	for key, value := range with {
		line[key] = value
	}
	output.Lock()
	defer output.Unlock()
	json.NewEncoder(os.Stdout).Encode(line)
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string         { return strings.Join(*l, ",") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

// parseRoute reads "PREFIX" or "PREFIX/PROTOCOL", such as 10.0.0.0/8/6 for TCP only.
func parseRoute(text string) (connectip.IPRoute, error) {
	protocol := 0
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		number, err := strconv.ParseUint(parts[2], 10, 8)
		if err != nil {
			return connectip.IPRoute{}, err
		}
		protocol = int(number)
		text = parts[0] + "/" + parts[1]
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return connectip.IPRoute{}, err
	}
	return connectip.IPRoute{StartIP: prefix.Masked().Addr(), EndIP: lastOf(prefix), IPProtocol: uint8(protocol)}, nil
}

func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func prefixesOf(routes []connectip.IPRoute) []string {
	texts := []string{}
	for _, route := range routes {
		for _, prefix := range route.Prefixes() {
			texts = append(texts, prefix.String())
		}
	}
	return texts
}
