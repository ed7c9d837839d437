/* CVE-2022-2989, CVE-2018-10856: a user has its own groups, its group among the supplementary ones, and no capability. */

#include "attack.h"

static void attack(int argc, char **argv)
{
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	struct { unsigned effective, permitted, inheritable; } sets[2];
	unsigned groups[64];
	long count = CALL(__NR_getgroups, 64, groups);

	(void)argc;
	(void)argv;
	refused("groups of the caller", -(count == 1 && groups[0] == (unsigned)CALL(__NR_getgid)), 0);
	works("capget", CALL(__NR_capget, &header, sets));
	if (CALL(__NR_getuid) == 0)
		return;
	refused("capabilities of a user", -!(sets[0].effective || sets[0].permitted || sets[1].permitted), 0);
	refused("a return to root", CALL(__NR_setuid, 0), EPERM);
	refused("a group of root's", CALL(__NR_setgroups, 1, groups), EPERM);
	refused("another's process", CALL(__NR_kill, 1, 0), EPERM);
}
