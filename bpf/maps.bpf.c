// SPDX-License-Identifier: GPL-2.0-only
/* No program: only the shared maps with their BTF (a spin lock in a value needs it). User space
 * creates maps through this object, so that a map has one definition for both sides.
 */
#include "bpf/lib/maps.h"

char LICENSE[] SEC("license") = "GPL";
