/* No attack: starts a program with all that a careless caller leaves to it. A key in the session keyring, descriptors
 * (one of the host's root directory: CVE-2024-21626, CVE-2016-9962), an ambient capability, a umask of 0. */

#include "attack.h"

#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define CAP_NET_RAW 13
#define KEYCTL_JOIN_SESSION_KEYRING 1

static void attack(int argc, char **argv)
{
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	struct { unsigned effective, permitted, inheritable; } sets[2];
	long dir;

	CALL(__NR_umask, 0);
	works("a session keyring", CALL(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "caller"));
	works("a key", CALL(__NR_add_key, "user", "layerctl-secret", "secret", 6, -3));
	dir = CALL(__NR_open, "/", O_RDONLY | O_DIRECTORY);
	works("a directory", dir);
	works("a descriptor", CALL(__NR_dup2, dir, 9));
	works("a descriptor", CALL(__NR_dup2, dir, 200));
	works("capget", CALL(__NR_capget, &header, sets));
	sets[0].inheritable |= 1 << CAP_NET_RAW;
	works("capset", CALL(__NR_capset, &header, sets));
	works("ambient", CALL(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW));
	if (argc > 1 && !gave_way)
		works("execve", CALL(__NR_execve, argv[1], argv + 1, argv + argc + 1));
}
