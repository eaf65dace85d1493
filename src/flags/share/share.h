// SPDX-License-Identifier: Apache-2.0
// A flag set shared between processes through a directory: one writer publishes images, any number of readers
// map them. The file `current` (one page, mapped by all) holds a sequence number and the name of the image in
// force. Images are files of their own, written completely, renamed into place and never changed. A reader
// notices an update by reading memory; it never locks and never writes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "flags/eval/image.h"

enum {
    SHARE_PATH_BYTES = 1024,
    SHARE_IMAGES_KEPT = 2, // older ones are removed; a process that has one mapped keeps it
};

// ---- writer ----

struct share_writer;
// Makes the directory (0755) when there is none, and takes a lock: STATUS_IN_USE when another process writes
// there. STATUS_DENIED also for a directory that anybody may write, or that belongs neither to us nor to
// root, because readers believe the images in it.
MUST_USE enum status share_writer_open(const char *directory, struct share_writer **writer);
void share_writer_close(struct share_writer *writer);
// On STATUS_NO_SPACE, IO and DENIED nothing has changed for readers. Nothing is synced to the disk, because
// the daemon can make images again.
MUST_USE enum status share_writer_publish(struct share_writer *writer, struct slice image);

// ---- reader ----

// For one thread at a time; only share_reader_stale may be called by any thread.
struct share_reader;
// STATUS_NOT_FOUND: nothing was ever published there. CORRUPT, DENIED (also where anybody may write),
// NO_MEMORY.
MUST_USE enum status share_reader_open(const char *directory, struct share_reader **reader);
void share_reader_close(struct share_reader *reader);
// Whether there is something newer than what `take` last gave or refused as CORRUPT: one load of mapped
// memory.
bool share_reader_stale(const struct share_reader *reader);
// Whether a writer is alive (a system call). Without one the flags stay as they are.
bool share_reader_written(const struct share_reader *reader);
// Whether the directory now has another file `current` than the one mapped (system calls). Then the reader
// must be opened again to see what is published.
bool share_reader_replaced(const struct share_reader *reader, const char *directory);
// Maps and verifies the newest image. STATUS_AGAIN when the writer replaced it meanwhile: try again. CORRUPT
// when the image is missing, damaged or of another length. Mappings given before stay valid.
struct share_mapping {
    struct flags_image set;
    void *data;
    size_t len;
    uint64_t sequence;
};
MUST_USE enum status share_reader_take(struct share_reader *reader, struct share_mapping *mapping);
void share_mapping_drop(struct share_mapping *mapping);
