package main

// DeleteObjects: many keys in one document. Each key obeys the rules for a key in a path,
// and only admins may delete a version, as everywhere.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

import (
	"errors"
	"fmt"
	"hash/maphash"
)

const maxDeleteKeys = 1000

var deleteForm = requestForm{root: "Delete", depth: 3, members: members(
	"Quiet", "Object+", "Object/Key", "Object/VersionId", "Object/ETag", "Object/LastModifiedTime", "Object/Size")}

// A deleteReader checks the keys and versions of a batch as they are read. It reports a
// refused key at the end, so that an error of the document comes first.
type deleteReader struct {
	x       *exchange
	batch   *batch
	objects int // so far
	refusal error

	named        bool // the Object being read has a Key
	key, version string
}

// readDelete returns the visit of a batch.
func readDelete(x *exchange) visit {
	b := &batch{objects: map[uint64]bool{}}
	x.check = b.check
	return (&deleteReader{x: x, batch: b}).visit
}

func (d *deleteReader) visit(path string, text []byte) (keep bool, err error) {
	switch path {
	case "Object/Key":
		d.named, d.key = true, string(text)
		if err := checkKey(d.key, d.x.g.config.nestedKeys); err != nil {
			d.refuse(refuseKey(fmt.Errorf("%w (%q)", err, shortened(d.key, 64))))
		}
	case "Object/VersionId":
		if len(text) == 0 { // no version
			return false, nil
		}
		if !d.x.user.role.may(actionAdmin) {
			d.refuse(newError(reasonRole, "AccessDenied", "DeleteObjectVersion is not allowed to the role "+string(d.x.user.role)))
		}
		d.version = string(text)
		return true, checkToken(path, text)
	case "Object/ETag", "Object/LastModifiedTime", "Object/Size":
		if len(text) == 0 {
			return false, nil
		}
		return true, checkToken(path, text)
	case "Object":
		return true, d.endObject()
	case "Quiet":
		d.batch.quiet = string(text) == "true"
	case "":
		if d.objects == 0 {
			return false, errObjectCount
		}
		return true, d.refusal
	}
	return true, nil
}

// refuse notes the first refusal.
func (d *deleteReader) refuse(err error) {
	if d.refusal == nil {
		d.refusal = err
	}
}

// endObject counts an object that was read.
func (d *deleteReader) endObject() error {
	if d.objects++; d.objects > maxDeleteKeys {
		return errObjectCount
	}
	if !d.named {
		return errors.New("an Object without a Key")
	}
	d.batch.objects[objectHash(d.key, d.version)] = true
	d.named, d.key, d.version = false, "", ""
	return nil
}

var errObjectCount = fmt.Errorf("the number of objects must be from 1 to %d", maxDeleteKeys)

// A batch is what the result of a DeleteObjects must account for.
type batch struct {
	quiet   bool            // the result names only objects that were not deleted
	objects map[uint64]bool // by objectHash
}

var objectSeed = maphash.MakeSeed()

// objectHash identifies an object, so that the keys of a batch need not be kept until its
// result comes. If two collide, the check of the result is weaker, never stricter.
func objectHash(key, version string) uint64 {
	var h maphash.Hash
	h.SetSeed(objectSeed)
	h.WriteString(key)
	h.WriteByte(0)
	h.WriteString(version)
	return h.Sum64()
}

// check returns an error for a result that accounts for too few objects: what became of the
// others is not known, and the client can send the batch again.
func (b *batch) check(result *element) error {
	told := make(map[uint64]bool, len(result.children))
	for i := range result.children {
		if e := &result.children[i]; e.name == "Deleted" || e.name == "Error" {
			told[objectHash(e.child("Key"), e.child("VersionId"))] = true
		}
	}
	if !b.quiet && len(told) < len(b.objects) {
		return fmt.Errorf("a result that accounts for %d objects of %d", len(told), len(b.objects))
	}
	return nil
}
