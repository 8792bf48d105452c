/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_TRIM_H
#define BN_LOADER_TRIM_H

/* Gives back what only the start needed: free memory of the allocator, the embedded objects, code that
 * ran once. Takes about a millisecond.
 */
void bn_trim(void);

#endif
