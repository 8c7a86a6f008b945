// SPDX-License-Identifier: Apache-2.0
/*
 * Limits
 *
 * Every number that a peer or an input controls has its limit here, by name, and a test.
 */
#pragma once

/* msgpack-RPC */
#define LIMIT_FRAME_BYTES (16u << 20) /* one message, bytes */
#define LIMIT_FRAME_DEPTH 32u /* nested arrays and maps */
#define LIMIT_FRAME_ITEMS                                                                          \
	(1u << 20) /* values in one message: each takes 24 bytes or more once unpacked */
#define LIMIT_CONN_REQUESTS 1024u /* in flight on a connection, other than tasks.wait */
#define LIMIT_CONN_WAITS 65536u /* tasks.wait in flight on a connection */
#define LIMIT_CONN_SUBSCRIPTIONS 256u
#define LIMIT_CONN_HELD_BYTES                                                                      \
	(64u << 20) /* large requests in flight on a connection; above it nothing more is read */
#define LIMIT_CONN_BACKLOG                                                                         \
	(1u << 20) /* answers and events not yet written; above it nothing more is read */
#define LIMIT_CONNECTIONS 1024u
#define LIMIT_CONNECTIONS_REFUSED                                                                  \
	64u /* beside them, those that are told resource_exhausted before they are closed */
#define LIMIT_SERVER_ORPHANS 65536u /* requests still worked on whose connection is gone */
#define LIMIT_REQUEST_FDS 16u /* fds passed with one request */
#define LIMIT_LIST_PAGE 10000u /* entries answered by one list call, unless `limit` says fewer */
#define LIMIT_LIST_BYTES (8u << 20) /* a list's page also ends where it has grown to this */

/* names */
#define LIMIT_ID_BYTES 76u /* container, exec, namespace, lease ids */
#define LIMIT_LABEL_BYTES 4096u /* key and value of a label together */
#define LIMIT_LABELS 1024u /* labels of one object */
#define LIMIT_NAMESPACES 4096u
#define LIMIT_PATH_BYTES 4095u /* of an argument that is a path */
#define LIMIT_NAME_BYTES 4096u /* image, runtime, snapshotter and snapshot key of a container */
#define LIMIT_EXTENSIONS_BYTES (1u << 20) /* of a container, packed */

/* OCI spec */
#define LIMIT_SPEC_BYTES (4u << 20) /* config.json as text */
#define LIMIT_SPEC_MOUNTS 4096u
#define LIMIT_SPEC_ARGS_BYTES (2u << 20)
#define LIMIT_JSON_DEPTH 64u

/* filters */
#define LIMIT_FILTER_BYTES 4096u
#define LIMIT_FILTERS 64u
#define LIMIT_FILTER_VALUE (64u << 10) /* a longer value matches no regular expression */

/* events */
#define LIMIT_EVENT_BYTES (1u << 20) /* payload of one event */
#define LIMIT_JOURNAL_BYTES_DEFAULT (64ull << 20)
#define LIMIT_JOURNAL_BYTES_MIN (1ull << 20)

/* terminals and logs */
#define LIMIT_TTY_REPLAY (64u << 10)
#define LIMIT_TTY_CLIENT_BACKLOG                                                                   \
	(1u << 20) /* an attached client further behind than this is detached */
#define LIMIT_LOG_LINE (16u << 10) /* longer lines are split as partial (P) */
#define LIMIT_LOG_SIZE_DEFAULT (16ll << 20)
#define LIMIT_LOG_QUEUE (1u << 20) /* of a terminal's output, on its way to the log thread */

/* hooks */
#define LIMIT_HOOK_OUTPUT (64u << 10) /* of a hook's stderr, kept for the error */
#define LIMIT_HOOK_SECONDS_DEFAULT 60u /* a hook without a timeout of its own */

/* content, images, snapshots */
#define LIMIT_REF_BYTES 4096u /* of an ingest */
#define LIMIT_CONTENT_CHUNK (4u << 20) /* answered by one content.read */
#define LIMIT_INGESTS 65536u /* of all namespaces */
#define LIMIT_INGEST_EXPIRE_SECONDS (24 * 3600) /* without a write and without a lease */
#define LIMIT_IMAGE_NAME_BYTES 4096u
#define LIMIT_MANIFEST_BYTES (8u << 20) /* of an index, a manifest, an image config */
#define LIMIT_IMAGE_DEPTH 16u /* of indexes in indexes */
#define LIMIT_IMAGE_CHILDREN 65536u /* descriptors below one target */
#define LIMIT_IMAGE_LAYERS 500u /* as many as LIMIT_SNAPSHOT_DEPTH: a container stands on all */
#define LIMIT_SNAPSHOT_DEPTH 500u /* parents of a snapshot; the kernel takes 500 lower layers */
#define LIMIT_TREE_DEPTH 16384u /* folders in folders, of a snapshot that is counted or copied */
#define LIMIT_LAYER_BYTES (1ull << 40) /* unpacked file data of a layer */
#define LIMIT_LAYER_ENTRIES 10000000ull
#define LIMIT_LAYER_RATIO 1000ull /* unpacked to packed, once more than 64 MiB are unpacked */
#define LIMIT_LAYER_XATTR_BYTES (512u << 10) /* all xattrs of an entry */
#define LIMIT_UNPACK_THREADS 8u /* of one image, for its layers side by side */
#define LIMIT_LAYER_DEPTH 512u /* folders in folders, of an entry of a layer */
#define LIMIT_LAYER_MEMORY                                                                         \
	(512u << 20) /* kept of a layer's entries while it is applied: names of folders and links */
#define LIMIT_MOUNT_OPTIONS 1024u /* of a mount for a tool */
#define LIMIT_ARCHIVE_ENTRIES 1000000u /* of an image archive */
#define LIMIT_ARCHIVE_FILES 16384u /* of a docker archive: layers and configs */
#define LIMIT_LEASE_RESOURCES 1000000u
#define LIMIT_INGEST_HASHES 1024u /* running hashes kept for ingests that nobody writes to */
#define LIMIT_CONN_WRITERS 256u /* refs that a connection writes to at a time: each holds an fd */

/* checkpoints */
#define LIMIT_CHECKPOINT_RECORD_BYTES (16u << 20)
#define LIMIT_CHECKPOINT_MOUNTS 10000u /* of a container */
#define LIMIT_CHECKPOINT_BLOBS 1000u /* layers: each takes a label of the manifest, and an fd */
#define LIMIT_CHECKPOINT_FILES 65536u /* criu's image files */
#define LIMIT_CHECKPOINT_OPEN 1024u /* of them at a time that criu writes */
#define LIMIT_CHECKPOINT_STREAMS 16384u /* image files at a time that criu reads: each is an fd */
#define LIMIT_CHECKPOINT_FILES_BYTES (256u << 20) /* of the small ones: they are kept in memory */
#define LIMIT_CHECKPOINT_BYTES (1ull << 44) /* of all of criu's image files, unpacked */
#define LIMIT_CHECKPOINT_FRAMES (8u << 20) /* of all large files: 24 bytes of memory each */
