// SPDX-License-Identifier: Apache-2.0
// The one list of expected failures. A function that can fail returns enum status; its outputs come last and
// stay untouched on failure. Messages for people are made only at the edges (config, cli, api).
#pragma once

#define MUST_USE __attribute__((warn_unused_result))

enum status {
    STATUS_OK = 0,
    STATUS_AGAIN,       // not complete yet: more bytes or another turn needed
    STATUS_FULL,        // a named limit is reached
    STATUS_INVALID,     // the input breaks its grammar or contract
    STATUS_RANGE,       // a number outside its documented range
    STATUS_NOT_FOUND,   // no such name
    STATUS_EXISTS,      // the name is taken, or what is asked for is so already
    STATUS_CONFLICT,    // not possible in the present state
    STATUS_CORRUPT,     // stored bytes do not match their checksum or shape
    STATUS_MISMATCH,    // two derivations of one thing differ
    STATUS_IO,          // the system refused a read or write
    STATUS_NO_SPACE,    // disk full
    STATUS_NO_MEMORY,   // allocation refused
    STATUS_NO_FD,       // no file descriptors left
    STATUS_IN_USE,      // address or file held by another process
    STATUS_DENIED,      // permission
    STATUS_UNSUPPORTED, // known but not available here
    STATUS_CLOSED,      // the peer or owner closed
    STATUS_REFUSED,     // connection refused
    STATUS_RESET,       // connection reset
    STATUS_UNREACHABLE, // no route, no such host or socket
    STATUS_TIMEOUT,     // a named deadline passed
    STATUS_CANCELLED,   // given up by the caller
    STATUS_COUNT
};

// Returns a short constant word for logs, never NULL.
const char *status_name(enum status status);

// Maps an errno value to the nearest status; unknown ones become STATUS_IO.
enum status status_of_errno(int error_number);
