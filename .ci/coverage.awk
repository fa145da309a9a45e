# Prints how much of each wing on the core path of a request the tests of its package
# execute, in statements, from a profile of go test -coverprofile. It fails if a wing has
# less than 90 %.

BEGIN {
	wings = split("path query auth operations handlers headers upload sigv4 limiter xml exchange upstream", wing)
	least = 90
}

# MODULE/FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT, without the files in folders
/^[^\/]*\/[^\/]*\.go:/ {
	name = $1
	sub(/.*\//, "", name)
	sub(/[_.].*/, "", name)
	all[name] += $2
	if ($3 > 0) executed[name] += $2
}

function report(name, executed, all) {
	printf "%-10s %5.1f %% of %d\n", name, 100 * executed / all, all
}

END {
	for (i = 1; i <= wings; i++) {
		name = wing[i]
		if (!all[name]) {
			printf "%s: there is no such file in the profile\n", name
			exit 1
		}
		report(name, executed[name], all[name])
		if (100 * executed[name] < least * all[name]) short = short " " name
		total += all[name]
		covered += executed[name]
	}
	report("together", covered, total)
	if (short != "") {
		printf "less than %d %%:%s\n", least, short
		exit 1
	}
}
