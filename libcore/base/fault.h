/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h: a mapped file whose disk fails, or which was cut off, under the program.
 *
 * The read has no caller who could be told: the kernel sends SIGBUS to the thread. What the thread was doing cannot go on, nor be taken back, so
 * the process ends; but it says which file it was.
 */
#ifndef KS_BASE_FAULT_H
#define KS_BASE_FAULT_H

/*
 * ks_fault_watch() - on such a fault log the file's name and end the process with @code
 *
 * Ended like that it leaves no core file: while the kernel writes one, the descriptors stay open, and a mount that is served by this process
 * hangs instead of failing. Every other SIGBUS does what it did before.
 */
void ks_fault_watch(int code);

#endif
