package main

// DeleteObjects: many keys in one document. Each is held to the rules for a key
// in a path, and a version may be deleted by admins only, here as anywhere.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html

import (
	"errors"
	"fmt"
)

const maxDeleteKeys = 1000

var deleteForm = requestForm{root: "Delete", depth: 3, members: members(
	"Quiet", "Object+", "Object/Key", "Object/VersionId", "Object/ETag", "Object/LastModifiedTime", "Object/Size")}

// readDelete checks the keys and versions of a batch. What is wrong with one of them
// is said at the end, after what is wrong with the document.
func readDelete(x *exchange) visit {
	objects, named := 0, false
	var refusal error
	return func(path string, text []byte) (keep bool, err error) {
		switch path {
		case "Object/Key":
			named = true
			if err := checkKey(string(text), x.g.config.nestedKeys); err != nil && refusal == nil {
				refusal = newError("InvalidRequest", fmt.Sprintf("%v (%q)", err, shortened(string(text), 64)))
			}
		case "Object/VersionId", "Object/ETag", "Object/LastModifiedTime", "Object/Size":
			if len(text) == 0 { // which is none
				return false, nil
			}
			if path == "Object/VersionId" && !x.user.role.may(actionAdmin) && refusal == nil {
				refusal = newError("AccessDenied", "DeleteObjectVersion is not allowed to the role "+string(x.user.role))
			}
			return true, checkToken(path, text)
		case "Object":
			if objects++; objects > maxDeleteKeys {
				return false, errObjectCount
			}
			if !named {
				return false, errors.New("an Object without a Key")
			}
			named = false
		case "":
			if objects == 0 {
				return false, errObjectCount
			}
			return true, refusal
		}
		return true, nil
	}
}

var errObjectCount = fmt.Errorf("the number of objects must be from 1 to %d", maxDeleteKeys)
