package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"

	connectip "github.com/quic-go/connect-ip-go"
	"golang.org/x/sys/unix"
)

const (
	tunMTU    = 1280
	maxPacket = 65535
)

// tun is a TUN interface without offloads: one packet per read and write.
type tun struct {
	file *os.File
	name string
}

func openTun(name string) (*tun, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, fmt.Errorf("make interface %s: %w", name, err)
	}
	// Non-blocking, so that the runtime's poller serves it and a close ends a read.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	t := &tun{file: os.NewFile(uintptr(fd), "/dev/net/tun"), name: name}
	return t, ip("link", "set", name, "mtu", strconv.Itoa(tunMTU), "up")
}

// ip runs the ip command.
func ip(args ...string) error {
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// counters of what came out of the tunnel, by IP protocol.
type counters struct {
	byProtocol [256]atomic.Uint64
}

func (c *counters) add(packet []byte) {
	if len(packet) < 20 {
		return
	}
	if packet[0]>>4 == 4 {
		c.byProtocol[packet[9]].Add(1)
	} else if packet[0]>>4 == 6 {
		c.byProtocol[packet[6]].Add(1)
	}
}

func (c *counters) fields() fields {
	counts := fields{}
	for protocol := range c.byProtocol {
		if count := c.byProtocol[protocol].Load(); count > 0 {
			counts[strconv.Itoa(protocol)] = count
		}
	}
	return counts
}

// toTun delivers what the peer sends until the tunnel ends.
func toTun(conn *connectip.Conn, t *tun, received *counters) error {
	buffer := make([]byte, maxPacket)
	for {
		n, err := conn.ReadPacket(buffer)
		if err != nil {
			return err
		}
		received.add(buffer[:n])
		if _, err := t.file.Write(buffer[:n]); err != nil {
			say("refused", fields{"error": err.Error(), "packet": hex.EncodeToString(buffer[:min(n, 48)])})
		}
	}
}

// fromTun hands every packet of the interface to the tunnel that is to have it.
func fromTun(ctx context.Context, t *tun, pick func(packet []byte) *connectip.Conn) error {
	buffer := make([]byte, maxPacket)
	for ctx.Err() == nil {
		n, err := t.file.Read(buffer)
		if err != nil {
			return err
		}
		conn := pick(buffer[:n])
		if conn == nil {
			continue
		}
		icmp, err := conn.WritePacket(buffer[:n])
		if err != nil {
			continue // that tunnel is over; toTun says so
		}
		if len(icmp) > 0 {
			if _, err := t.file.Write(icmp); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
