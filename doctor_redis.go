package main

// The doctor at the store of the shared limiter: can it be reached, does it accept the password,
// may its user run the script, and is it fast enough. It asks twice: patiently, to learn what
// is wrong, and then as the limiter does.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"
)

// redisWait is how long the store may take for each step of the patient question.
const redisWait = 5 * time.Second

const redisSetting = "rate_limit.redis_url"

// A redisDoctor examines the store.
type redisDoctor struct {
	*chapter
	store *redisStore
}

// examine fills the chapter, or a part of it if ctx is done first.
func (d *redisDoctor) examine(ctx context.Context) {
	defer d.begin("")
	defer d.store.close()
	defer context.AfterFunc(ctx, d.store.close)()
	d.begin("connection")
	call := d.store.begin()
	call.grace, call.ends = redisWait, time.Now().Add(2*redisWait)
	server := d.store.server
	c, err := d.store.get(call, server.addr)
	if err != nil {
		d.refused(err)
		return
	}
	clock, err := redisTime(c)
	if err == nil {
		err = tryRights(c)
	}
	d.store.put(c, err == nil)
	if err != nil {
		d.refused(err)
		return
	}
	if ahead := time.Until(clock).Round(time.Second); ahead.Abs() >= clockDrift {
		d.add(redisSetting, "redis_clock", "the store's clock, by which the limiter counts, is %s off; set it (NTP), and not in one step: that would move the windows", ahead.Abs())
	}
	d.begin("script")
	d.decide()
}

// doctorKey returns a key that is not a user's: a name with a slash is none.
func doctorKey() string { return windowKey("doctor/" + rand.Text()) }

// decide asks for a decision, in the time that the limiter has.
func (d *redisDoctor) decide() {
	windows := &sharedWindows{store: d.store, log: slog.New(slog.DiscardHandler)}
	start := time.Now()
	_, err := windows.admit(doctorKey(), rateLimit{1, time.Second}, start)
	switch {
	case err == nil:
		d.add(redisSetting, "redis_ok", "%s decides, in %s", d.store.server.addr, roughly(time.Since(start)))
	case isTimeout(err) || errors.Is(err, errRedisBusy):
		d.add(redisSetting, "redis_slow", "%s answers, but not within %s, after which each gateway limits by itself; use a store that is nearer", d.store.server.addr, redisDeadline)
	default:
		d.refused(err)
	}
}

// refused adds the finding for an error of the store.
func (d *redisDoctor) refused(err error) {
	addr := d.store.server.addr
	var refusal redisError
	var network *net.OpError
	switch {
	case !errors.As(err, &refusal):
	case refusal.code == "NOPERM":
		d.add(redisSetting, "redis_right", "the user may not do what the limiter does; ACL SETUSER NAME ~%s* %s", windowPrefix, limiterRights)
		return
	case refusal.code == "NOAUTH":
		d.add(redisSetting, "redis_password", "%s asks for a password; write redis://:PASSWORD@HOST into %s", addr, redisSetting)
		return
	case errors.Is(err, errRedisLogin):
		d.add(redisSetting, "redis_password", "%s refuses the user or the password of %s; correct them", addr, redisSetting)
		return
	default:
		d.add(redisSetting, "redis_refuses", "%s: %s; look at that server, or correct %s", addr, ownWords(err), redisSetting)
		return
	}
	switch afterDial := !errors.As(err, &network) || network.Op != "dial"; {
	case errors.Is(err, errRedisReply), errors.Is(err, errRedisScript), errors.Is(err, io.ErrUnexpectedEOF), afterDial && errors.Is(err, syscall.ECONNRESET):
		d.add(redisSetting, "not_redis", "%s accepts a connection and does not answer as Redis does; correct the port of %s, or write rediss:// if it speaks TLS", addr, redisSetting)
	case afterDial && isTimeout(err):
		d.add(redisSetting, "no_answer", "%s accepts a connection and does not answer; is it the right port, does the store work, and is redis:// or rediss:// (TLS) what it speaks?", addr)
	default:
		d.unconnected(peer{subject: redisSetting, setting: redisSetting, host: addr, plain: "redis://"}, err)
	}
}

// limiterRights are what a user of the store needs to run windowScript.
const limiterRights = "+eval +evalsha +select +time +llen +lindex +ltrim +del +rpush +pexpire"

// tryRights sends each command of windowScript by itself, and returns the error of one that the user
// may not send. The script sends some of them only when a window has moved on, and the store has
// no code for one that fails within it.
func tryRights(c *redisConn) error {
	key := doctorKey()
	for _, command := range [][]string{
		{"LLEN", key}, {"RPUSH", key, "0"}, {"PEXPIRE", key, "1000"}, {"LINDEX", key, "0"}, {"LTRIM", key, "0", "-1"}, {"DEL", key}, {"EVAL", "return 0", "1", key},
	} {
		_, err := c.do(command...)
		var refusal redisError
		if said := errors.As(err, &refusal); err != nil && (!said || refusal.code == "NOPERM") {
			return err
		}
	}
	return nil
}

// redisTime asks the store for its clock.
func redisTime(c *redisConn) (time.Time, error) {
	reply, err := c.do("TIME")
	if err != nil {
		return time.Time{}, err
	}
	if len(reply.list) != 2 {
		return time.Time{}, errRedisReply
	}
	seconds, err := strconv.ParseInt(reply.list[0].text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: TIME", errRedisReply)
	}
	return time.Unix(seconds, 0), nil
}
