/* CVE-2024-3056: what a container keeps in memory has a bound, and its IPC objects are its own. */

#include "attack.h"

static char block[1 << 20];

static void fill(const char *path)
{
	long fd = CALL(__NR_open, path, O_CREAT | O_WRONLY, 0666);
	long got = 0;
	int count;

	for (count = 0; fd >= 0 && count < 80 && got >= 0; count++)
		got = CALL(__NR_write, fd, block, sizeof(block));
	refused(path, got < 0 || fd < 0 ? -1 : got, 0);
	CALL(__NR_unlink, path);
}

static void attack(int argc, char **argv)
{
	struct { long words[64]; } info;

	(void)argc;
	(void)argv;
	fill("/dev/shm/fill");
	fill("/dev/fill");
	/* IPC_INFO of shmctl: the highest index in use. */
	refused("shared memory of the host", -(CALL(__NR_shmctl, 0, 14, &info) <= 0), 0);
}
