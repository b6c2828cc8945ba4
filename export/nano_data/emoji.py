"""Drawn cut-outs: the pictographs of Debian's fonts-noto-color-emoji that show one plain thing.

The font is under the SIL Open Font License 1.1 and stays where apt put it. What a character shows
is taken from its Unicode name; the few that nobody would say are given as ``unicode name=name``.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgevlm.errors import ExportError
from edgevlm.frame import UInt8

PACKAGE = "fonts-noto-color-emoji"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_SIZE = 109  # the only size that the font's bitmaps have
_DROPPED = (" face", " symbol")  # what Unicode adds to the name of the thing itself

_SHOWN = {
    "animals": """
        rat; mouse; ox; water buffalo; cow; tiger; leopard; rabbit; cat; crocodile; whale; snail;
        snake; horse; ram; goat; sheep; monkey; rooster; chicken; dog; pig; boar; elephant;
        octopus; bug=caterpillar; ant; honeybee=bee; lady beetle=ladybug; fish; tropical fish;
        blowfish=pufferfish; turtle; baby chick=chick; front-facing baby chick=chick;
        hatching chick; bird; penguin; koala; poodle; dromedary camel=dromedary;
        bactrian camel=camel; dolphin; mouse face; cow face; tiger face; rabbit face; cat face;
        dragon face; dragon; spouting whale=whale; horse face; monkey face; dog face; pig face;
        frog face; hamster face; wolf face; bear face; panda face; chipmunk; spider; crab;
        lion face; scorpion; turkey; unicorn face; eagle; duck; bat; shark; owl; fox face;
        butterfly; deer; gorilla; lizard; rhinoceros; shrimp; squid; giraffe face; zebra face;
        hedgehog; sauropod=dinosaur; t-rex=dinosaur; cricket; kangaroo; llama; peacock;
        hippopotamus; parrot; raccoon; lobster; mosquito; badger; swan; mammoth; dodo; sloth; otter;
        orangutan; skunk; flamingo; oyster; beaver; bison; seal; guide dog=dog; fly; worm; beetle;
        cockroach; dove of peace=dove; spiral shell=shell; coral""",
    "food": """
        hot dog; taco; burrito; chestnut; hot pepper=chili pepper; ear of maize=corn; tomato;
        aubergine=eggplant; grapes; melon; watermelon; tangerine; lemon; banana; pineapple;
        red apple=apple; green apple=apple; pear; peach; cherries; strawberry; hamburger;
        slice of pizza=pizza; poultry leg=chicken leg; rice ball; spaghetti; bread;
        french fries; sushi; fried shrimp; ice cream; soft ice cream=ice cream cone; doughnut;
        cookie; chocolate bar; candy; lollipop; custard=pudding; honey pot=jar of honey;
        shortcake=piece of cake; bento box=lunch box; wine glass=glass of wine;
        cocktail glass=cocktail; tropical drink; beer mug=mug of beer; popcorn;
        birthday cake=cake; croissant; avocado; cucumber; bacon; potato; carrot;
        baguette bread=baguette; green salad=salad; egg; glass of milk; peanuts; kiwifruit;
        pancakes; dumpling; fortune cookie; coconut; broccoli; pie; pretzel;
        cut of meat=steak; sandwich; canned food=can of food; leafy green=lettuce; mango; bagel;
        cheese wedge=cheese; cupcake; garlic; onion; waffle; butter; ice cube; bubble tea;
        blueberries; bell pepper; olive; tamale; beans; hot beverage=cup of coffee; mushroom;
        cup with straw=soft drink; beverage box=juice box; meat on bone=meat""",
    "plants": """
        evergreen tree=fir tree; deciduous tree=tree; palm tree; cactus; tulip; cherry blossom;
        rose; hibiscus; sunflower; blossom=flower; four leaf clover=clover; maple leaf; seedling;
        potted plant; lotus; wilted flower=rose; bouquet=bunch of flowers; herb; shamrock=clover;
        wood=log; fallen leaf=leaves""",
    "vehicles": """
        rocket; helicopter; steam locomotive; railway car; high-speed train;
        high-speed train with bullet nose=high-speed train; train; metro=subway train; tram; bus;
        oncoming bus=bus; trolleybus; minibus; ambulance; fire engine=fire truck; police car;
        oncoming police car=police car; taxi; oncoming taxi=taxi; automobile=car;
        oncoming automobile=car; delivery truck; articulated lorry=truck; tractor; monorail; ship;
        speedboat; bicycle; motor boat=motorboat; small airplane=airplane; airplane; satellite;
        scooter; motor scooter; canoe; sled; flying saucer; skateboard; auto rickshaw=rickshaw;
        pickup truck; racing car=race car; sailboat; ferry; parachute;
        manual wheelchair=wheelchair; aerial tramway=cable car; shopping trolley=shopping cart;
        recreational vehicle=car; passenger ship=ship; roller skate""",
    "household": """
        door; toilet; bathtub; bed; couch and lamp=couch; chair; mirror; window; plunger; bucket;
        mouse trap=mousetrap; toothbrush; razor; broom; basket; roll of paper=toilet paper; bar of
        soap=soap; sponge; fire extinguisher; safety pin; teddy bear; toolbox; magnet; compass;
        abacus; brick; spool of thread; ball of yarn; lotion bottle; test tube; luggage; jigsaw
        puzzle piece; salt shaker; teapot; jar; ladder; screwdriver; carpentry saw=saw; axe; hammer;
        wrench; nut and bolt; hook; electric torch=flashlight; electric light bulb=light bulb;
        candle; key; old key=key; lock; lock with ink pen=lock; bell; alarm clock; watch; hourglass;
        mantelpiece clock=clock; clock face three oclock=clock; clock face ten oclock=clock;
        telephone receiver; black telephone=telephone; pager; fax machine; mobile phone; camera;
        camera with flash=camera; video camera; television; radio; videocassette; film projector;
        battery; electric plug=plug; microscope; telescope; desktop computer; personal
        computer=laptop computer; printer; keyboard=computer keyboard; three button mouse=computer
        mouse; floppy disk; optical disc=compact disc; joystick; briefcase; school satchel=backpack;
        paperclip; straight ruler=ruler; triangular ruler=set square; pushpin; round
        pushpin=pushpin; black scissors=scissors; pencil; lower left ballpoint pen=pen; lower left
        fountain pen=fountain pen; lower left paintbrush=paintbrush; lower left crayon=crayon;
        notebook; closed book=book; open book=book; green book=book; blue book=book; orange
        book=book; books; newspaper; clipboard; scroll; package=cardboard box; envelope; postbox;
        file cabinet=filing cabinet; wastebasket=waste basket; baby bottle; spoon; hocho=knife; fork
        and knife; chopsticks; amphora; shopping bags; umbrella; closed umbrella=umbrella;
        thermometer; crystal ball; bomb; gear; anchor; scales=balance; alembic; chains=chain;
        pick=pickaxe; shield; crossed swords; dagger knife=dagger; oil drum=oil barrel; wheel; ring
        buoy=lifebuoy; money bag; credit card; coin; satellite antenna; cheering
        megaphone=megaphone; tumbler glass=glass; bellhop bell=bell; right-pointing magnifying
        glass=magnifying glass; knot; sewing needle=needle; left-pointing magnifying
        glass=magnifying glass; izakaya lantern=lantern; fuel pump=gas pump; nesting dolls; mirror
        ball=disco ball; bowl with spoon=bowl; crown; ring; lipstick""",
    "clothes": """
        womans hat=hat; eyeglasses=glasses; dark sunglasses=sunglasses; necktie=tie; t-shirt;
        jeans; dress; kimono; bikini; womans clothes=blouse; purse; handbag; pouch; mans shoe=shoe;
        athletic shoe=sneaker; high-heeled shoe=high heel; womans sandal=sandal;
        womans boots=boot; lab coat; goggles; hiking boot; flat shoe=shoe; billed cap=cap; scarf;
        gloves; coat; socks; safety vest; ballet shoes; one-piece swimsuit=swimsuit;
        briefs=underpants; shorts; thong sandal=flip-flop; military helmet=helmet; top hat;
        graduation cap; sari; running shirt with sash=tank top;
        helmet with white cross=helmet""",
    "sports": """
        soccer ball; baseball; softball; volleyball; american football; rugby football=rugby ball;
        tennis racquet and ball=tennis racket; cricket bat and ball=cricket bat; trophy;
        sports medal=medal; boxing glove; martial arts uniform; curling stone;
        flying disc=frisbee; ice skate; fishing pole and fish=fishing rod; billiards=billiard ball;
        bow and arrow; kite; yo-yo; boomerang; table tennis paddle and ball=table tennis bat;
        badminton racquet and shuttlecock=badminton racket; ice hockey stick and puck=hockey stick;
        basketball and hoop=basketball; game die=die; bowling=bowling pins; goal net=goal""",
    "hobbies": """
        saxophone; guitar; musical keyboard=piano keyboard; trumpet; violin; drum with
        drumsticks=drum; banjo; accordion; long drum; microphone; studio microphone=microphone;
        headphone=headphones; artist palette=palette; movie camera; clapper board; video game=game
        controller; slot machine; postal horn=horn; magic wand; ferris wheel; carousel horse; circus
        tent=tent; pinata""",
    "town": """
        house building=house; house with garden=house; office building; hospital; school; factory;
        church; mosque; japanese castle=castle; european castle=castle; fountain; tent; bus stop;
        vertical traffic light=traffic light; horizontal traffic light=traffic light; hut;
        statue of liberty=statue; tokyo tower=tower; moyai=stone head; barber pole;
        playground slide=slide; classical building=temple; headstone; coffin; rock""",
    "seasonal": """
        jack-o-lantern=carved pumpkin; christmas tree; wrapped present=gift; balloon;
        party popper; snowman; snowman without snow=snowman; ghost; ribbon=bow; firecracker;
        father christmas=santa claus; skull""",
    "medical": "syringe; pill; stethoscope; crutch; bone; tooth; adhesive bandage",
    "space": """
        full moon symbol=full moon; crescent moon; sun with face=sun; ringed planet=planet;
        earth globe americas=globe; earth globe europe-africa=globe;
        earth globe asia-australia=globe; comet; glowing star=star; white medium star=star; cloud;
        rainbow; snowflake; volcano; fire; droplet=drop of water""",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pictograph:
    """One character of the font, as a cut-out.

    Args:
        font: the font's file.
        character: one code point.
        name: of the thing, without article, in lower case.
        kind: what kind of thing it is, in the words of ``Stamp.kind``.
    """

    font: Path
    character: str
    name: str
    kind: str

    def rgba(self) -> UInt8:
        """Its pixels, cropped to what is not transparent, uint8 ``(height, width, 4)``."""
        return _pixels(self.font, self.character)


def pictographs(font: Path = FONT) -> tuple[Pictograph, ...]:
    """Every character that shows one plain thing, in groups; several may share a name.

    Raises:
        ExportError: the font is not installed, or it is one that lacks a character.
    """
    if not font.is_file():
        raise ExportError(f"no font {font}: apt-get install {PACKAGE}")
    return _shown(font)


@lru_cache(maxsize=2)
def _shown(font: Path) -> tuple[Pictograph, ...]:
    found = []
    for kind, entries in _SHOWN.items():
        for entry in " ".join(entries.split()).split("; "):
            unicode_name, _, name = entry.partition("=")
            character = unicodedata.lookup(unicode_name)
            found.append(Pictograph(font, character, name or _plain(unicode_name), kind))
    return tuple(found)


def _plain(unicode_name: str) -> str:
    for end in _DROPPED:
        unicode_name = unicode_name.removesuffix(end)
    return unicode_name


@lru_cache(maxsize=512)
def _pixels(font: Path, character: str) -> UInt8:
    drawn = _drawn(font, character)
    box = drawn.getchannel("A").point(lambda value: 255 if value > 127 else 0).getbbox()
    if box is None:
        raise ExportError(
            f"{font} does not show {unicodedata.name(character)}: apt-get install {PACKAGE}"
        )
    pixels = np.asarray(drawn.crop(box))
    pixels.setflags(write=False)
    return pixels


def _drawn(font: Path, character: str) -> Image.Image:
    room = Image.new("RGBA", (160, 160))
    face = _face(font)
    ImageDraw.Draw(room).text((10, 10), character, font=face, embedded_color=True)
    return room


@lru_cache(maxsize=2)
def _face(font: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font), _SIZE)
