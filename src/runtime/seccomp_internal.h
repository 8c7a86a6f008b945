// SPDX-License-Identifier: Apache-2.0
/*
 * One profile to one program, private to runtime/seccomp*.c
 */
#pragma once

#include "runtime/seccomp.h"

/* Fills *out, whose pointers are then the caller's (seccomp_program_clear). On failure *out is empty. */
int seccomp_compile(json_object *profile, struct seccomp_program *out, struct fault *f);
void seccomp_program_clear(struct seccomp_program *p);
