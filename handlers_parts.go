package main

// CompleteMultipartUpload: the list of parts that becomes the object.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

import (
	"errors"
	"fmt"
	"strconv"
)

// maxChecksumText bounds a checksum, in bytes: a SHA-512 in base64 has 88.
const maxChecksumText = 128

var completeForm = requestForm{root: "CompleteMultipartUpload", depth: 3, members: members("Part+", "Part/PartNumber", "Part/ETag", "Part/Checksum*")}

// readComplete checks that parts have numbers, which ascend. A server that sorts
// them makes another object of a list out of order than the one that was meant.
func readComplete(x *exchange) visit {
	number, last := 0, 0 // of the part that is read, and of the one before
	return func(path string, text []byte) (keep bool, err error) {
		switch path {
		case "Part/PartNumber":
			n, err := strconv.ParseUint(string(text), 10, 16)
			if err != nil || n < 1 || n > maxParts {
				return false, fmt.Errorf("PartNumber must be a number from 1 to %d", maxParts)
			}
			number = int(n)
		case "Part/ETag":
			return true, checkToken(path, text)
		case "Part":
			if number == 0 {
				return false, errors.New("a Part without a PartNumber")
			}
			if number <= last {
				return false, newError("InvalidPartOrder", "")
			}
			number, last = 0, number
		case "":
			if last == 0 {
				return false, errors.New("a list without a Part")
			}
		default: // a checksum
			if len(text) > maxChecksumText {
				return false, fmt.Errorf("%s is longer than %d bytes", path, maxChecksumText)
			}
			return x.takesChecksums(), checkToken(path, text)
		}
		return true, nil
	}
}

// checkToken holds what a service has issued to the rule for such values.
func checkToken(path string, text []byte) error {
	if err := markerID(string(text)); err != nil {
		return newError("InvalidArgument", fmt.Sprintf("%s %v", path, err))
	}
	return nil
}
