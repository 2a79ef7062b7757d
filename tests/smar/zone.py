"""A DNS in memory, and a driver that answers decisions from it."""

from smar.records import BEGUN, Ahead, Answer, Outcome, Question

NO_NAME = Answer(outcome=Outcome.NO_NAME, ttl_s=60)
NO_DATA = Answer(outcome=Outcome.NO_DATA, ttl_s=60)
FAILED = Answer(outcome=Outcome.FAILED, detail="SERVFAIL")


def mx(*records):
    """An answer with MX records given as "10 host"; "0 ." is the null MX."""
    pairs = (record.split() for record in records)
    found = tuple((int(p), "" if h == "." else h) for p, h in pairs)
    return Answer(outcome=Outcome.FOUND, mx=found, ttl_s=300)


def names(*texts):
    return Answer(outcome=Outcome.FOUND, names=texts, ttl_s=300)


def addresses(*texts):
    return Answer(outcome=Outcome.FOUND, addresses=texts, ttl_s=300)


class Zone:
    """Answers by name and type; what is not there is NO_DATA or NO_NAME, as a server would say."""

    def __init__(self, **records):
        """Zone(MX={"example.org": mx(...)}, A={"mx.example.org": "192.0.2.1"}, AAAA={...})."""
        self.asked = []
        self.rounds = []
        self.ahead = []
        self._answers = {}
        for kind, rows in records.items():
            for name, row in rows.items():
                answer = row if isinstance(row, Answer) else addresses(*row.split())
                self._answers[Question(name, kind)] = answer
        self._names = {question.name for question in self._answers}

    def answer(self, question):
        if isinstance(question, Ahead):
            self.ahead.append(question.question)
            return BEGUN
        self.asked.append(question)
        missing = NO_DATA if question.name in self._names else NO_NAME
        return self._answers.get(question, missing)

    def drive(self, steps):
        """Bring a decision to its end."""
        try:
            asked = next(steps)
            while True:
                self.rounds.append(asked)
                asked = steps.send(tuple(self.answer(question) for question in asked))
        except StopIteration as stop:
            return stop.value
