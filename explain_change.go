package main

// Which settings refuse a request. No rule is repeated here: the request is asked about again,
// with other settings, until it passes. The smallest set of changes with which it does is the
// answer.

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A change is another value of a setting.
type change struct {
	text  string // names the setting and the value
	apply func(*config, *user)
}

// maxChanges is how many settings may have to change together: nested_keys, a bucket that is
// declared, and allowed, and a role.
const maxChanges = 4

// changeStep returns the step that tells what to change for a request that is refused.
func changeStep(q question, conf *config) explainedStep {
	needed := neededChanges(q, conf)
	if needed == nil {
		return explainedStep{severityWarning, "to do", "change the request: no role, bucket or limit in the configuration would let it pass"}
	}
	var texts []string
	for _, c := range needed {
		texts = append(texts, c.text)
	}
	return explainedStep{severityWarning, "to do", "it would pass with\n" + strings.Join(texts, "\n")}
}

// neededChanges returns the fewest changes with which the request passes, or nil.
func neededChanges(q question, conf *config) []change {
	all := possibleChanges(q, conf)
	for size := 1; size <= maxChanges; size++ {
		if found := search(q, conf, all, nil, size); found != nil {
			return found
		}
	}
	return nil
}

// search tries all sets of size more changes, in their order.
func search(q question, conf *config, all, chosen []change, size int) []change {
	if size == 0 {
		if v, err := q.ask(withChanges(conf, q.user, chosen)); err == nil && v.passes() {
			return chosen
		}
		return nil
	}
	for i := range all {
		if found := search(q, conf, all[i+1:], append(slices.Clone(chosen), all[i]), size-1); found != nil {
			return found
		}
	}
	return nil
}

// withChanges returns a copy of a configuration with changes.
func withChanges(conf *config, userName string, wanted []change) *config {
	next := *conf
	next.buckets = maps.Clone(conf.buckets)
	asker := *configuredUser(conf, userName)
	asker.buckets = maps.Clone(asker.buckets)
	next.users = []*user{&asker}
	for _, c := range wanted {
		c.apply(&next, &asker)
	}
	return &next
}

// possibleChanges returns what might let a request pass, the least right first.
func possibleChanges(q question, conf *config) []change {
	asker := configuredUser(conf, q.user)
	all := []change{
		{`"nested_keys": true (now false)`, func(c *config, _ *user) { c.nestedKeys = true }},
		{fmt.Sprintf("a larger max_file_size (now %d)", conf.maxFileSize), func(c *config, _ *user) { c.maxFileSize = math.MaxInt64 }},
	}
	for _, name := range mentionedBuckets(q, conf) {
		if conf.buckets[name] == nil {
			first := conf.accounts[0]
			all = append(all, change{fmt.Sprintf("%q in accounts.NAME.buckets of the account that has the bucket", name),
				func(c *config, _ *user) { c.buckets[name] = &bucket{name: name, backendName: name, account: first} }})
		}
		all = append(all, change{fmt.Sprintf("%q in users.%s.allowed_buckets", name, asker.name), func(_ *config, u *user) { u.buckets[name] = true }})
	}
	for _, r := range []role{roleUser, roleAdmin} {
		all = append(all, change{fmt.Sprintf("users.%s.role %q (now %q)", asker.name, r, asker.role), func(_ *config, u *user) { u.role = r }})
	}
	all = append(all, change{fmt.Sprintf(`"*" in users.%s.allowed_buckets`, asker.name), func(_ *config, u *user) { u.allBuckets = true }})
	if origin := q.value("Origin"); origin != "" {
		all = append(all, change{fmt.Sprintf("server.cors with the origin %q and this method and headers", origin),
			func(c *config, _ *user) { c.cors = newCORS([]string{origin}, nil, nil, nil, 0) }})
	}
	return all
}

// maxMentioned bounds the buckets that are tried: four bucket names are more than any operation
// has.
const maxMentioned = 4

// mentionedBuckets returns the bucket in the host or the path, and those of the configuration that a copy
// source or the query has somewhere, but not more than maxMentioned.
func mentionedBuckets(q question, conf *config) []string {
	var names []string
	path, query, _ := strings.Cut(q.path, "?")
	host := q.value("Host")
	if _, rest, absolute := strings.Cut(path, "://"); absolute {
		host, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	if name := hostedBucket(host, conf.domain); validBucket(name) {
		names = append(names, name)
	} else if t, _ := parsePath(path, true); t.bucket != "" {
		names = append(names, t.bucket)
	}
	texts := q.value(copySource) + " " + query
	for _, name := range slices.Sorted(maps.Keys(conf.buckets)) {
		if strings.Contains(texts, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names[:min(len(names), maxMentioned)]
}
