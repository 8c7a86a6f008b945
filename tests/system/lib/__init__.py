# SPDX-License-Identifier: Apache-2.0
"""What the system tests stand on.

rpc      a msgpack-RPC client that shares no code with davit
daemon   a davit daemon of a test's own, with helpers to run containers in it
events   a subscription as a stream that can be waited on
rootfs   root file systems, OCI specs and bundles
leaks    what is there before and after: processes, mounts, cgroups, network namespaces, files
cli      the command line, also on a terminal
"""
