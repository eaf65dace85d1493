// SPDX-License-Identifier: Apache-2.0
// The shim between SQLite and the system's VFS. For each file it holds the content that is surely on the disk
// and, in order, the operations since the last sync. Reads go to the real file, which has all of them.
#include "ship/store/fault_vfs.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"

struct fault_op {
    struct fault_op *next;
    int64_t offset; // of a write; the new size of a truncation
    int64_t len;    // -1: truncation
    uint8_t data[];
};

struct fault_disk_file {
    char path[512];
    bool exists;
    uint8_t *image; // what is durable
    size_t len;
    size_t cap;
    struct fault_op *ops;
    struct fault_op **ops_end;
};

struct fault_file {
    sqlite3_file base;
    struct fault_disk_file *disk; // NULL: a temporary file, not tracked
    sqlite3_file *real;           // lies behind this structure
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    bool installed;
    struct fault_vfs_plan plan;
    struct fault_vfs_counts counts;
    struct fault_disk_file files[FAULT_VFS_FILES_MAX];
    uint32_t file_count;
} fault;

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct fault_file *)(void *)file)->real;
}

static struct fault_disk_file *disk_of(sqlite3_file *file)
{
    return ((struct fault_file *)(void *)file)->disk;
}

// ---- the disk ----

static void ops_forget(struct fault_disk_file *disk)
{
    while (disk->ops != NULL) {
        struct fault_op *op = disk->ops;
        disk->ops = op->next;
        heap_free(op);
    }
    disk->ops_end = &disk->ops;
}

static void image_grow(struct fault_disk_file *disk, size_t len)
{
    if (len > disk->cap) {
        size_t cap = 2 * len + 65536;
        uint8_t *image = heap_resize(disk->image, cap);
        CHECK(image != NULL); // this is a test's tool, so without memory the test ends
        disk->image = image;
        disk->cap = cap;
    }
    if (len > disk->len) {
        memset(disk->image + disk->len, 0, len - disk->len);
        disk->len = len;
    }
}

static void image_truncate(struct fault_disk_file *disk, size_t len)
{
    image_grow(disk, len);
    disk->len = len;
}

static void image_write(struct fault_disk_file *disk, int64_t offset, const uint8_t *data, size_t len)
{
    image_grow(disk, (size_t)offset + len);
    memcpy(disk->image + offset, data, len);
}

static void op_note(struct fault_disk_file *disk, int64_t offset, const void *data, int64_t len)
{
    if (disk == NULL)
        return;
    struct fault_op *op = heap_alloc(1, sizeof *op + (len > 0 ? (size_t)len : 0));
    CHECK(op != NULL);
    op->offset = offset;
    op->len = len;
    if (len > 0)
        memcpy(op->data, data, (size_t)len);
    *disk->ops_end = op;
    disk->ops_end = &op->next;
}

// Applies an operation to the disk's content, each sector as `keep` says. rng is used for RANDOM only.
static void op_apply(struct fault_disk_file *disk, const struct fault_op *op, enum fault_vfs_keep keep,
                     struct rng *rng)
{
    if (op->len < 0) {
        if (keep == FAULT_VFS_KEEP_ALL || rng_below(rng, 2) == 0)
            image_truncate(disk, (size_t)op->offset);
        return;
    }
    int64_t at = 0;
    while (at < op->len) {
        int64_t sector_end = ((op->offset + at) / FAULT_VFS_SECTOR_BYTES + 1) * FAULT_VFS_SECTOR_BYTES;
        int64_t len = sector_end - op->offset - at;
        len = len < op->len - at ? len : op->len - at;
        if (keep == FAULT_VFS_KEEP_ALL || rng_below(rng, 2) == 0)
            image_write(disk, op->offset + at, op->data + at, (size_t)len);
        at += len;
    }
}

static void ops_apply(struct fault_disk_file *disk, enum fault_vfs_keep keep, struct rng *rng)
{
    for (const struct fault_op *op = disk->ops; op != NULL && keep != FAULT_VFS_KEEP_NONE; op = op->next)
        op_apply(disk, op, keep, rng);
    ops_forget(disk);
}

// A file that already exists counts as durable.
static void image_load(struct fault_disk_file *disk)
{
    FILE *file = fopen(disk->path, "rb");
    disk->exists = true;
    if (file == NULL)
        return;
    uint8_t piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, file)) > 0)
        image_write(disk, (int64_t)disk->len, piece, n);
    fclose(file);
}

static struct fault_disk_file *disk_find(const char *path, bool add)
{
    for (uint32_t i = 0; i < fault.file_count; i++)
        if (strcmp(fault.files[i].path, path) == 0)
            return &fault.files[i];
    if (!add)
        return NULL;
    CHECK(fault.file_count < FAULT_VFS_FILES_MAX && strlen(path) < sizeof fault.files[0].path);
    struct fault_disk_file *disk = &fault.files[fault.file_count++];
    *disk = (struct fault_disk_file){.ops_end = NULL};
    disk->ops_end = &disk->ops;
    memcpy(disk->path, path, strlen(path) + 1);
    return disk;
}

// ---- faults ----

// Counts an operation. True when the power is off by now.
static bool power_gone(void)
{
    fault.counts.operations++;
    if (fault.plan.off_at != 0 && fault.counts.operations >= fault.plan.off_at)
        fault.counts.off = true;
    fault.counts.failed += fault.counts.off;
    return fault.counts.off;
}

static bool write_refused(int *code)
{
    if (power_gone()) {
        *code = SQLITE_IOERR_WRITE;
        return true;
    }
    uint64_t n = ++fault.counts.writes;
    uint64_t from = fault.plan.write_fails_from;
    if (from == 0 || n < from || n - from >= fault.plan.write_fails_count)
        return false;
    fault.counts.failed++;
    *code = SQLITE_FULL;
    return true;
}

// ---- the file's table of functions ----

static int file_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int file_read(sqlite3_file *file, void *data, int len, sqlite3_int64 offset)
{
    return real_of(file)->pMethods->xRead(real_of(file), data, len, offset);
}

static int file_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 offset)
{
    int code;
    if (write_refused(&code))
        return code;
    code = real_of(file)->pMethods->xWrite(real_of(file), data, len, offset);
    if (code == SQLITE_OK)
        op_note(disk_of(file), offset, data, len);
    return code;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int code;
    if (write_refused(&code))
        return code;
    code = real_of(file)->pMethods->xTruncate(real_of(file), size);
    if (code == SQLITE_OK)
        op_note(disk_of(file), size, NULL, -1);
    return code;
}

// Without the real sync, since only the simulated disk matters and the tests run faster.
static int file_sync(sqlite3_file *file, int flags)
{
    (void)flags;
    if (power_gone())
        return SQLITE_IOERR_FSYNC;
    struct fault_disk_file *disk = disk_of(file);
    if (++fault.counts.syncs == fault.plan.sync_fails_at) {
        fault.counts.failed++;
        if (disk != NULL)
            ops_forget(disk);
        return SQLITE_IOERR_FSYNC;
    }
    if (disk != NULL)
        ops_apply(disk, FAULT_VFS_KEEP_ALL, NULL);
    return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int file_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int file_check_reserved(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int file_sector_size(sqlite3_file *file)
{
    (void)file;
    return FAULT_VFS_SECTOR_BYTES;
}

static int file_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int file_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), region, size, extend, out);
}

static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int file_shm_unmap(sqlite3_file *file, int delete_flag)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), delete_flag);
}

// Version 2 has no memory-mapped pages, which would bypass the shim.
static const sqlite3_io_methods FAULT_METHODS = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

// ---- the VFS ----

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *flags_out)
{
    (void)vfs;
    struct fault_file *own = (struct fault_file *)(void *)file;
    *own = (struct fault_file){.real = (sqlite3_file *)(void *)(own + 1)};
    struct fault_disk_file *disk = name != NULL ? disk_find(name, false) : NULL;
    if (name != NULL && (flags & SQLITE_OPEN_DELETEONCLOSE) == 0 && (disk == NULL || !disk->exists)) {
        bool there = access(name, F_OK) == 0;
        if (!there && power_gone())
            return SQLITE_CANTOPEN; // creating a file counts as an operation too
        disk = disk_find(name, true);
        image_load(disk);
    }
    int code = fault.real->xOpen(fault.real, name, own->real, flags, flags_out);
    if (code != SQLITE_OK)
        return code;
    own->disk = disk;
    own->base.pMethods = &FAULT_METHODS;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_folder)
{
    (void)vfs;
    if (power_gone())
        return SQLITE_IOERR_DELETE;
    int code = fault.real->xDelete(fault.real, name, sync_folder);
    struct fault_disk_file *disk = disk_find(name, false);
    if (code == SQLITE_OK && disk != NULL) {
        ops_forget(disk);
        disk->exists = false;
        disk->len = 0;
    }
    return code;
}

enum status fault_vfs_install(void)
{
    if (fault.installed)
        return STATUS_CONFLICT;
    memset(&fault, 0, sizeof fault);
    fault.real = sqlite3_vfs_find(NULL);
    if (fault.real == NULL)
        return STATUS_UNSUPPORTED;
    // The copy keeps the real VFS's own data, because functions not replaced here need it.
    fault.vfs = *fault.real;
    fault.vfs.pNext = NULL;
    fault.vfs.zName = "fault";
    fault.vfs.szOsFile = (int)sizeof(struct fault_file) + fault.real->szOsFile;
    fault.vfs.xOpen = vfs_open;
    fault.vfs.xDelete = vfs_delete;
    if (sqlite3_vfs_register(&fault.vfs, 1) != SQLITE_OK)
        return STATUS_NO_MEMORY;
    fault.installed = true;
    return STATUS_OK;
}

static void files_forget(void)
{
    for (uint32_t i = 0; i < fault.file_count; i++) {
        ops_forget(&fault.files[i]);
        heap_free(fault.files[i].image);
    }
    fault.file_count = 0;
}

void fault_vfs_remove(void)
{
    if (!fault.installed)
        return;
    files_forget();
    fault_vfs_set(&(struct fault_vfs_plan){0});
    sqlite3_vfs_unregister(&fault.vfs);
    sqlite3_vfs_register(fault.real, 1);
    fault.installed = false;
}

void fault_vfs_set(const struct fault_vfs_plan *plan)
{
    fault.plan = *plan;
    fault.counts = (struct fault_vfs_counts){0};
}

struct fault_vfs_counts fault_vfs_counts_get(void)
{
    return fault.counts;
}

static enum status disk_write_out(const struct fault_disk_file *disk)
{
    if (!disk->exists) {
        unlink(disk->path);
        return STATUS_OK;
    }
    FILE *file = fopen(disk->path, "wb");
    if (file == NULL)
        return STATUS_IO;
    bool ok = disk->len == 0 || fwrite(disk->image, 1, disk->len, file) == disk->len;
    return (fclose(file) == 0 && ok) ? STATUS_OK : STATUS_IO;
}

enum status fault_vfs_crash(enum fault_vfs_keep keep, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < fault.file_count; i++) {
        ops_apply(&fault.files[i], keep, &rng);
        if (status == STATUS_OK)
            status = disk_write_out(&fault.files[i]);
    }
    files_forget();
    fault_vfs_set(&(struct fault_vfs_plan){0});
    return status;
}
